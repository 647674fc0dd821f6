"""For tests of programs that use birdfeed: capture the events they track, without Redis and without a thread.

    from birdfeed.testing import capture

    def test_a_generation_is_tracked():
        with capture() as events:
            client.post("/generate", json={"prompt": "a cat"})
        assert events.only.data["model"] == "flux"

With pytest, the fixture `birdfeed_events` does the same for a whole test. With the extra `worker`,
`birdfeed_worker.testing.priced(events.only)` returns the row that a worker would write for an event.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, overload

import orjson
from birdfeed_schemas.fields import ANY_TYPE
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.tables.hints import unknown_field, unknown_names

from birdfeed import api
from birdfeed.client import Client, finished
from birdfeed.delivery.pipeline import Pipeline
from birdfeed.encoding.batch import line_of
from birdfeed.encoding.encoder import Encoded
from birdfeed.settings import ProducerSettings

if TYPE_CHECKING:
    from birdfeed_schemas.events import Event
    from birdfeed_schemas.registry import EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedEvent:
    """An event as it would have left the process: filtered, with field names normalised, hashed, after before_send.

    `dropped_fields` counts the values that were left out; `unknown_fields` has the names among them that birdfeed
    doesn't know, most of them misspelt. (prompt, messages, content and image are dropped on purpose and not listed.)
    """

    event_id: str
    event_type: str
    occurred_at: datetime
    data: dict[str, Any]
    dropped_fields: int = 0
    truncated: int = 0
    unknown_fields: tuple[str, ...] = ()

    def validated(self) -> "Event":
        """The event as the worker would read it.

        Raises:
            KeyError: The event type is not registered.
            ValueError: Unknown fields were dropped; the message names each, with the nearest known field.
            pydantic.ValidationError: The event is invalid: the worker would dead-letter it.
        """
        from birdfeed_schemas.registry import registry

        known: EventType = registry()[self.event_type]
        if self.unknown_fields:
            spellings = [name for field, others in known.fields.items() for name in (field, *others)]
            raise ValueError("; ".join(unknown_field(self.event_type, name, spellings) for name in self.unknown_fields))
        return known.event.model_validate(self.data)


class Captured(Sequence[CapturedEvent]):
    """The events tracked so far, in order."""

    def __init__(self, client: "_CapturingClient") -> None:
        self._client = client

    @property
    def only(self) -> CapturedEvent:
        """The only event; raises AssertionError if there is none or more than one."""
        assert len(self) == 1, (
            f"{counted(len(self), 'event was', 'events were')} tracked: {[event.event_type for event in self]}"
        )
        return self[0]

    @property
    def dropped(self) -> Mapping[str, int]:
        """Events that were not sent, by reason."""
        return self._client.counters.dropped()

    def of(self, event_type: str) -> list[CapturedEvent]:
        """The events of this type."""
        return [event for event in self if event.event_type == event_type]

    def clear(self) -> None:
        """Forget what was tracked so far."""
        self._client.events.clear()

    @overload
    def __getitem__(self, at: int) -> CapturedEvent: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[CapturedEvent]: ...
    def __getitem__(self, at: int | slice) -> CapturedEvent | Sequence[CapturedEvent]:
        return self._client.events[at]

    def __len__(self) -> int:
        return len(self._client.events)

    def __repr__(self) -> str:
        return f"Captured({self._client.events!r})"


class _CapturingClient(Client):
    """Encodes events as usual, but keeps them: its pipelines are never started."""

    def __init__(self, settings: ProducerSettings) -> None:
        self.events: list[CapturedEvent] = []
        self._tracking = threading.local()
        super().__init__()
        self._options = settings.options()

    def record(self, event_type: str, event_data: Mapping[str, Any]) -> str | None:
        """Record as usual, and remember the data in order to name the dropped fields."""
        self._tracking.data = event_data
        return super().record(event_type, event_data)

    def _unknown_fields(self, event_type: str) -> tuple[str, ...]:
        from birdfeed_schemas.registry import spellings_of

        assert self._options is not None
        known = {**(spellings_of(event_type) or ANY_TYPE), **dict.fromkeys(self._options.extra_fields, "")}
        return unknown_names(self._tracking.data, known)

    def _turn_on(self) -> None:
        assert self._options is not None
        pipeline = Pipeline(
            replace(self._options, durability="buffer"),
            self.counters,
            before_send=self._before_send,
            credentials=None,
        )
        pipeline.put = self._keep
        self._pipeline = pipeline
        self._state = "on"

    def _keep(self, event: Encoded) -> bool:
        line = orjson.loads(line_of(event))
        self.events.append(
            CapturedEvent(
                event_id=line["event_id"],
                event_type=event[0],
                occurred_at=datetime.fromisoformat(line["occurred_at"]),
                data=line["data"],
                dropped_fields=event[2],
                truncated=line.get("truncated", 0),
                unknown_fields=self._unknown_fields(event[0]) if event[2] else (),
            )
        )
        return True

    def _end(self, old: Pipeline, timeout: float) -> bool:
        self._ending.remove(old)  # it was never started and holds nothing
        return True

    def at_exit(self) -> None:
        """There is nothing to send."""

    def request_flush(self) -> "list[Future[bool]]":
        """There is nothing to send."""
        return [finished(True)]


@contextmanager
def capture(**settings: Any) -> Iterator[Captured]:
    """Capture every event tracked in the block, in any thread, instead of sending it.

    If the program calls configure() in the block, its privacy settings apply.

    Args:
        settings: Single settings, such as extra_fields or user_hmac_key.
    """
    client = _CapturingClient(ProducerSettings(**settings))
    before = api.use_client(client)
    try:
        yield Captured(client)
    finally:
        api.use_client(before)
