"""Hand-written fakes of what the producer uses, and helpers to build a producer."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from birdfeed.buffering.buffer import Buffer
from birdfeed.delivery.delivery import Delivery
from birdfeed.encoding.batch import PackedBatch, lines_of
from birdfeed.encoding.encoder import Encoder, Policy
from birdfeed.options import Options
from birdfeed.runtime.wake import Wake
from birdfeed.spool.store import Spool
from birdfeed.stats import Counters
from birdfeed.transport.circuit_breaker import Breaker
from birdfeed.transport.enqueuer import Answer, Outcome
from birdfeed_schemas.fields import SPELLINGS

#: Settings that no environment variable changes.
REDIS_URL = "redis://127.0.0.1:1/0"


def options(**values: Any) -> Options:
    return Options(**{"redis_url": REDIS_URL, **values})


class Clock:
    """A clock that only the test moves."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeRedis:
    """Accepts batches once per id, as the enqueue script does; `mood` says how it answers."""

    def __init__(self) -> None:
        self.mood = Outcome.ACCEPTED
        #: With mood REFUSED: how it refuses.
        self.refusal: Exception = ConnectionError("refused")
        #: Accepts heartbeats even then, as if a user may do that but not enqueue.
        self.takes_heartbeats = False
        self.batches: dict[str, PackedBatch] = {}
        self.reports: dict[str, dict[tuple[str, str], int]] = {}
        self.heartbeats: list[tuple[str, dict[str, str | int | float]]] = []
        self.tries = 0
        #: With mood UNKNOWN: whether the batches are written although the answer is lost.
        self.arrives = True
        self.closed = False

    def enqueue(self, batches: Sequence[PackedBatch]) -> Answer:
        self.tries += 1
        if self.mood is Outcome.REFUSED:
            return Answer(outcomes=[Outcome.REFUSED] * len(batches), error=self.refusal)
        outcomes = []
        for batch in batches:
            known = batch.id in self.batches
            if self.mood is not Outcome.UNKNOWN or self.arrives:
                self.batches.setdefault(batch.id, batch)
            outcomes.append(Outcome.KNOWN if known else Outcome.ACCEPTED)
        if self.mood is Outcome.UNKNOWN:
            return Answer(outcomes=[Outcome.UNKNOWN] * len(batches), error=TimeoutError("no answer"))
        return Answer(outcomes=outcomes)

    def report(self, report_id: str, drops: Mapping[tuple[str, str], int]) -> Exception | None:
        if self.mood is Outcome.REFUSED:
            return self.refusal
        self.reports[report_id] = dict(drops)
        return TimeoutError("no answer") if self.mood is Outcome.UNKNOWN else None

    def heartbeat(self, producer_id: str, fields: Mapping[str, str | int | float]) -> Exception | None:
        if self.mood is Outcome.REFUSED and not self.takes_heartbeats:
            return self.refusal
        self.heartbeats.append((producer_id, dict(fields)))
        return None

    def close(self) -> None:
        self.closed = True

    @property
    def event_ids(self) -> list[str]:
        """The request ids of all events; the event ids of those that have none."""
        lines = [orjson.loads(line) for batch in self.batches.values() for line in lines_of(batch)]
        return [line["data"]["request_id"] if "data" in line else line["event_id"] for line in lines]

    @property
    def dropped(self) -> dict[tuple[str, str], int]:
        total: dict[tuple[str, str], int] = {}
        for report in self.reports.values():
            for key, events in report.items():
                total[key] = total.get(key, 0) + events
        return total


class Bench:
    """The parts of a producer without its thread: the test puts events in, runs rounds and moves the clock."""

    def __init__(self, tmp_path: Path | None = None, **values: Any) -> None:
        self.options = options(spool_dir=tmp_path, **values) if tmp_path else options(spool_bytes=0, **values)
        self.clock = Clock()
        self.counters = Counters()
        self.redis = FakeRedis()
        self.wake = Wake()
        self.buffer = Buffer(
            counters=self.counters,
            wake=self.wake,
            max_events=self.options.buffer_events,
            max_bytes=self.options.buffer_bytes,
            drop_policy=self.options.drop_policy,
        )
        self.spool = self.make_spool() if tmp_path else None
        self.encoder = Encoder(Policy(), self.counters)
        self.delivery = Delivery(
            options=self.options,
            buffer=self.buffer,
            counters=self.counters,
            sender=self.redis,
            spool=self.spool,
            clock=self.clock,
            breaker=Breaker(clock=self.clock, jitter=lambda: 0.0),
        )
        self.numbers = count()
        self.shape = Policy().shape(SPELLINGS["text_generation"])

    def make_spool(self) -> Spool:
        from birdfeed.spool.location import spool_path

        return Spool(
            spool_path(self.options),
            max_bytes=self.options.spool_bytes,
            drop_oldest=self.options.drop_policy == "oldest",
            clock=self.clock,
        )

    def track(self, events: int = 1, event_type: str = "text_generation") -> list[str]:
        """Put events into the buffer; returns their request ids."""
        ids = []
        for _ in range(events):
            ids.append(f"request {next(self.numbers)}")
            event = self.encoder.encode(event_type, {"model": "m", "request_id": ids[-1]}, self.shape)
            assert event is not None
            self.buffer.put(event)
        return ids

    def round(self, seconds: float = 0.2, *, closing: bool = False) -> bool:
        """Move the clock and run a round."""
        self.clock.now += seconds
        return self.delivery.round(closing=closing)

    def close(self) -> None:
        self.delivery.close()


def add_project(event: dict[str, Any]) -> dict[str, Any]:
    """A before_send hook."""
    event["event_data"]["project"] = "added"
    return event


def of_request(request: Any) -> Any:
    """The fields that the events of a Django request inherit."""
    return {"referrer": f"https://{request.path.strip('/')}.example/"}
