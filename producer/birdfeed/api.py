"""The functions a program calls, on the one client of its process."""

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
    """Send one event to Tinybird, later. Returns in microseconds, never waits, never raises.

    Args:
        event_type: "text_generation", "image_generation", or EventType("..."), a type another package registered, for
            which a type checker does not know the fields.
        event_data: The event's fields; see docs/how-to/handler.md. Names birdfeed doesn't store are dropped, and
            counted.
            It is read immediately: changing it afterwards changes nothing.
            With an `idempotency_key`, events of one type and key have one id: a handler that is retried counts once.

    Returns:
        The event's id (a UUID), as its row will have it; None where the event was dropped, or telemetry is off.
    """
    try:
        if (fields := _inherited()) is not None:
            event_data = merged(fields, event_data)
        return _client.record(event_type, event_data)
    except Exception as error:
        return _client.handle_failure(event_type, event_data, error)


def track_own(event_type: str, event_data: Mapping[str, Any]) -> None:
    """`track_event` for data that has what it inherits already, and may be tracked from another request's context."""
    try:
        _client.record(event_type, event_data)
    except Exception as error:
        _client.handle_failure(event_type, event_data, error)


def flush(timeout: float | None = None) -> bool:
    """Send what waits now. For the end of a serverless invocation, or a test.

    Args:
        timeout: Seconds to wait; None is the setting close_timeout.

    Returns:
        Whether all events tracked before are in Redis or the spool on disk.
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
    """Send everything and stop; runs by itself when the process ends. A later event starts it again.

    Args:
        timeout: Seconds to wait; None is the setting close_timeout.

    Returns:
        Whether every event reached Redis or the spool; the others are counted as dropped, with the reason "closed".
    """
    return _client.close(timeout)


def configure(
    settings: "ProducerSettings | None" = None,
    *,
    before_send: BeforeSend | None = None,
    credentials: "Credentials | None" = None,
    **overrides: Unpack[SettingsFields],
) -> None:
    """Set birdfeed up at the start of a program; optional, for the environment is read anyway.

    Args:
        settings: All settings; None reads the environment.
        before_send: Sees each event as {"event_type": ..., "event_data": {...}} (plain JSON, a copy) in the thread that
            tracked it, and returns it, changed or not, or None to drop it.
        credentials: Returns (user, password), or (password,), for each new connection to Redis.
        overrides: Single settings that win over the environment, such as queue="staging".

    Raises:
        ConfigurationError: A setting is wrong.
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
    """Check the settings and start the flusher now, not at the first event: call it where a program starts.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    if not _client.configured:
        configure()
    _client.start()


def check() -> "list[Check]":
    """What would be sent from here, to which Redis, whether that is reachable and safe, and whether workers live.

    For a person or a start-up probe: it asks Redis, for some seconds at most where that doesn't answer, and writes
    nothing. `birdfeed doctor` says the same and, where the workers' settings are, says how Tinybird is, too.

    Returns:
        A sentence for each thing that was looked at, with what to do; `state` is ok, unknown, warning, wrong or down.
    """
    from birdfeed.checks.look import check_process

    return check_process(*_client.configuration)


def stats() -> Stats:
    """What birdfeed has done in this process, and what it had to drop, by reason."""
    return _client.stats()


def current_client() -> Client:
    """The client that track_event uses."""
    return _client


def use_client(client: Client) -> Client:
    """Make track_event use another client (birdfeed.testing does); returns the one before."""
    global _client
    before, _client = _client, client
    return before
