"""The functions a program calls. They all use the process's one client."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack, overload

from birdfeed.client import Client
from birdfeed.encoding.encoder import BeforeSend
from birdfeed.request_context import inherited, merged
from birdfeed.stats import Stats
from birdfeed.typed import EventType, ImageGenerationFields, SettingsFields, TextGenerationFields

if TYPE_CHECKING:
    from birdfeed.checks.findings import Check
    from birdfeed.settings import ProducerSettings
    from birdfeed.transport.connection import Credentials

_client = Client()
#: Bound once: looking the method up at each call costs as much as calling it.
_inherited: Final = inherited.get


@overload
def track_event(event_type: Literal["text_generation"], event_data: TextGenerationFields) -> str | None: ...
@overload
def track_event(event_type: Literal["image_generation"], event_data: ImageGenerationFields) -> str | None: ...
@overload
def track_event(event_type: EventType, event_data: Mapping[str, Any]) -> str | None: ...
def track_event(event_type: str, event_data: Mapping[str, Any]) -> str | None:
    """Queue one event for Tinybird. Returns within microseconds; never blocks, never raises.

    Args:
        event_type: "text_generation", "image_generation", or, for a type that another package registered,
            EventType("..."); type checkers don't know the fields of those.
        event_data: The event's fields; see docs/how-to/handler.md. Fields that birdfeed doesn't store are dropped and
            counted. The data is read during the call: changing it afterwards has no effect.
            Events of one type with the same `idempotency_key` get the same id, so a retried handler counts once.

    Returns:
        The event's id (a UUID), which its row will have; None if the event was dropped or telemetry is off.
    """
    try:
        if (fields := _inherited()) is not None:
            event_data = merged(fields, event_data)
        return _client.record(event_type, event_data)
    except Exception as error:
        return _client.handle_failure(event_type, event_data, error)


def track_own(event_type: str, event_data: Mapping[str, Any]) -> None:
    """`track_event` without adding the context's fields: the data has its own, and may be another request's."""
    try:
        _client.record(event_type, event_data)
    except Exception as error:
        _client.handle_failure(event_type, event_data, error)


def flush(timeout: float | None = None) -> bool:
    """Send the buffered events now, for example at the end of a serverless invocation or in a test.

    Args:
        timeout: Seconds to wait; None means the setting close_timeout.

    Returns:
        Whether every event tracked before the call is in Redis or the spool on disk, or was dropped and counted.
    """
    return _client.flush(timeout)


async def aflush(timeout: float | None = None) -> bool:
    """`flush` without blocking the event loop."""
    import asyncio

    requests = [asyncio.wrap_future(request) for request in _client.request_flush()]
    try:
        return all(await asyncio.wait_for(asyncio.gather(*requests), _client.timeout_or_default(timeout)))
    except TimeoutError:
        return False


def close(timeout: float | None = None) -> bool:
    """Send everything and stop. Runs automatically when the process exits; a later event starts birdfeed again.

    Args:
        timeout: Seconds to wait; None means the setting close_timeout.

    Returns:
        Whether every event reached Redis or the spool; the others are counted as dropped, with the reason "closed".
        False also if the settings are wrong.
    """
    return _client.close(timeout)


def configure(
    settings: "ProducerSettings | None" = None,
    *,
    before_send: BeforeSend | None = None,
    credentials: "Credentials | None" = None,
    **overrides: Unpack[SettingsFields],
) -> None:
    """Set birdfeed up at the start of a program. Optional: without it, the settings come from the environment.

    Args:
        settings: All settings; None reads the environment.
        before_send: Called with each event as {"event_type": ..., "event_data": {...}} (a copy, in plain JSON) in the
            thread that tracked it; returns the event, changed or not, or None to drop it.
        credentials: Called for each new connection to Redis; returns (user, password) or (password,).
        overrides: Single settings that override the environment, such as queue="staging".

    Raises:
        ConfigurationError: A setting is wrong or unknown, or both `settings` and `overrides` are given.
    """
    import os

    from birdfeed_schemas.settings import explain
    from birdfeed_schemas.tables.variables import meant
    from pydantic import ValidationError

    from birdfeed.errors import ConfigurationError
    from birdfeed.options import log_unknown
    from birdfeed.settings import ProducerSettings

    known = ProducerSettings.model_fields
    if settings is not None and overrides:
        raise ConfigurationError("give settings or single overrides, not both")
    if unknown := sorted(overrides.keys() - known.keys()):
        hint = meant(unknown[0].lower().removeprefix("birdfeed_"), known)
        raise ConfigurationError(f"there is no setting named {', '.join(unknown)}{hint}")
    single: dict[str, Any] = {**overrides}
    try:
        chosen = settings if settings is not None else ProducerSettings(**single)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None
    log_unknown(os.environ)
    _client.configure(chosen.options(), before_send=before_send, credentials=credentials)


def start() -> None:
    """Check the settings and start the flusher now instead of at the first event. Call it when the program starts.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    if not _client.configured:
        configure()
    _client.start()


def check() -> "list[Check]":
    """Check what this process would send and to which Redis, whether that is reachable and safe, and if workers run.

    For a person or a start-up probe. It asks Redis, waits a few seconds at most if that doesn't answer, and writes
    nothing. `birdfeed doctor` reports the same and, where the workers' settings are set, checks Tinybird as well.

    Returns:
        One Check for each thing that was checked: a sentence, and what to do. Its `state` is ok, unknown, warning,
        wrong or down.
    """
    from birdfeed.checks.look import check_process

    return check_process(*_client.configuration)


def stats() -> Stats:
    """Counts of what birdfeed has done in this process, with the dropped events by reason."""
    return _client.stats()


def current_client() -> Client:
    """The client that track_event uses."""
    return _client


def use_client(client: Client) -> Client:
    """Make track_event use another client, as birdfeed.testing does; returns the previous one."""
    global _client
    before, _client = _client, client
    return before
