"""For the tests of programs that use birdfeed: see the events they track, with no Redis and no thread.

    from birdfeed.testing import capture

    def test_a_generation_is_tracked():
        with capture() as events:
            client.post("/generate", json={"prompt": "a cat"})
        assert events.only.data["model"] == "flux"

With pytest, the fixture `birdfeed_events` does the same for a whole test. With the extra `worker`,
`birdfeed_worker.testing.priced(events.only)` is the row that a worker would write of an event.
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
from birdfeed.client import Client
from birdfeed.delivery.pipeline import Pipeline
from birdfeed.encoding.batch import line_of
from birdfeed.encoding.encoder import Encoded
from birdfeed.settings import ProducerSettings

if TYPE_CHECKING:
    from birdfeed_schemas.events import Event
    from birdfeed_schemas.registry import EventType


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedEvent:
    """An event as it would have left the process: filtered, renamed, hashed, through before_send, as JSON.

    `dropped_fields` counts the values that were left out, `unknown_fields` names the fields among them that birdfeed
    does not know: misspelt, mostly. (prompt, messages, content and image are dropped on purpose, and not named.)
    """

    event_id: str
    event_type: str
    occurred_at: datetime
    data: dict[str, Any]
    dropped_fields: int = 0
    truncated: int = 0
    unknown_fields: tuple[str, ...] = ()

    def validated(self) -> "Event":
        """The event as the worker will read it.

        Raises:
            KeyError: No such event type is registered.
            ValueError: Fields were dropped that birdfeed does not know; each is named, with the nearest that it knows.
            pydantic.ValidationError: The worker would make a dead letter of it.
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
        """The one event; raises AssertionError if there are none, or several."""
        assert len(self) == 1, (
            f"{counted(len(self), 'event was', 'events were')} tracked: {[event.event_type for event in self]}"
        )
        return self[0]

    @property
    def dropped(self) -> Mapping[str, int]:
        """Events that were not sent, by reason."""
        return self._client.counters.dropped()

    def of(self, event_type: str) -> list[CapturedEvent]:
        """The events of one type."""
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
    """Filters and writes as ever, but keeps what it wrote: its pipelines are never started."""

    def __init__(self, settings: ProducerSettings) -> None:
        self.events: list[CapturedEvent] = []
        self._tracking = threading.local()
        super().__init__()
        self._options = settings.options()

    def record(self, event_type: str, event_data: Mapping[str, Any]) -> str | None:
        """As ever, remembering the data for the names of what is dropped of it."""
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
            on_unusable=lambda pipeline, why: None,
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
        self._ending.remove(old)  # it was never started, and holds nothing
        return True

    def request_flush(self) -> "list[Future[bool]]":
        """Nothing to send."""
        done: Future[bool] = Future()
        done.set_result(True)
        return [done]


@contextmanager
def capture(**settings: Any) -> Iterator[Captured]:
    """Capture every event tracked in the block, in any thread, instead of sending it.

    A program's own configure() in the block is heeded for what it says about privacy.

    Args:
        settings: Single settings, such as extra_fields or user_hmac_key.
    """
    client = _CapturingClient(ProducerSettings(**settings))
    before = api.use_client(client)
    try:
        yield Captured(client)
    finally:
        api.use_client(before)
