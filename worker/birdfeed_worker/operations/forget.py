"""Forget: erase one person's waiting, scheduled and dead events from Redis. Events in flight are only counted.

Each job changes in one atomic step (queue/lua/forget.lua): its other events stay, and the ledger counts the erased ones
as dropped, with the reason `forgotten`. Jobs move in the meantime, so the search is repeated until nothing is found.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from birdfeed_schemas.fields import ANY_TYPE
from birdfeed_schemas.registry import spellings_of
from birdfeed_schemas.wire.envelope import Batch, WireError, split_batch
from birdfeed_schemas.wire.keys import REASON_FIELD, Keys
from msgspec import structs
from redis import Redis
from uuid_utils import uuid7

from birdfeed_worker.chunks import batched
from birdfeed_worker.dead_letters.audit import rewrite
from birdfeed_worker.dead_letters.query import pages
from birdfeed_worker.dead_letters.record import rest_of
from birdfeed_worker.pipeline.settle import REMEMBER_SECONDS
from birdfeed_worker.queue.codec import repack, unpack
from birdfeed_worker.queue.reply import as_text, data_of
from birdfeed_worker.queue.scripts import script

#: Jobs searched in one round trip.
PAGE: Final = 200
#: How often all jobs are searched at most while events of the person are still found.
ROUNDS: Final = 5
#: Fields that name a person.
PERSONAL: Final = frozenset({"user", "username"})
#: Replaces an erased name in the audit log.
ERASED: Final = "(forgotten)"
#: What forget.lua returns on success.
_DONE: Final = 1


@dataclass(frozen=True, slots=True)
class Person:
    """One person, identified by the values of `user` or `username` in their events."""

    values: frozenset[str]

    def owns(self, event_type: str, line: bytes) -> bool:
        """Whether an event's line names this person; an unreadable line names nobody."""
        # A fast check, because nearly all lines are other persons'. Only an escape can hide a value.
        if b"\\" not in line and not any(value.encode() in line for value in self.values):
            return False
        names = spellings_of(event_type) or ANY_TYPE
        data = data_of(line)
        return any(names.get(name) in PERSONAL and str(value) in self.values for name, value in data.items())


@dataclass(slots=True)
class Forgotten:
    """Events that were erased, or would be, by place. `in_flight` are events that workers have reserved; they stay.

    `unreadable` are jobs that can't be opened, so that it is unknown whose events they hold; `log_entries` are entries
    of `birdfeed dead log` that named the person.
    """

    queued: int = 0
    scheduled: int = 0
    dead: int = 0
    in_flight: int = 0
    unreadable: int = 0
    log_entries: int = 0

    @property
    def events(self) -> int:
        """All erased events."""
        return self.queued + self.scheduled + self.dead


@dataclass(slots=True)
class _Found:
    """A job with events of the person: forget.lua's arguments for what is left of it."""

    job_id: str
    digest: str
    events: int
    left: tuple[bytes, int, str] = field(default=(b"", 0, ""))


class Forget:
    """One search for a person's events.

    Args:
        dry_run: Only count.
    """

    def __init__(self, connection: Redis, keys: Keys, person: Person, *, dry_run: bool = False) -> None:
        self._connection = connection
        self._keys = keys
        self._person = person
        self._dry_run = dry_run
        self._script = script(connection, keys, "forget")
        self._memory = keys.birdfeed(f"forgetting:{uuid7()}")
        self.result = Forgotten()

    def run(self) -> Forgotten:
        """Erase what no worker has reserved, search again for jobs that moved, and count what is in flight."""
        result = self.result
        for _ in range(ROUNDS):
            before, result.unreadable = result.events, 0
            # A job that becomes due moves from the schedule to the queue, so the schedule is searched first.
            result.scheduled += self._erase(self._scheduled())
            result.queued += self._erase(self._queued())
            result.dead += self._erase(pages(self._connection, self._keys))
            if self._dry_run or result.events == before:
                break
        result.in_flight = sum(found.events for page in self._started() for found in self._look(page))
        result.log_entries = rewrite(self._connection, self._keys, self._without, dry_run=self._dry_run)
        self._connection.delete(self._memory)
        return result

    def _erase(self, found: Iterable[Sequence[str]]) -> int:
        return sum(self._erase_page(page) for ids in found for page in batched(ids, PAGE))

    def _erase_page(self, ids: Sequence[str]) -> int:
        jobs = list(self._look(ids))
        if self._dry_run or not jobs:
            return sum(job.events for job in jobs)
        calls = ([job.job_id, job.digest, job.events, *job.left, REMEMBER_SECONDS, self._memory] for job in jobs)
        # Jobs that changed or were reserved between the search and the step are found in the next round.
        return sum(int(answer[1]) for answer in self._script.run_all(calls) if answer[0] == _DONE)

    def _look(self, ids: Sequence[str]) -> Iterator[_Found]:
        """Those of these jobs that hold events of the person."""
        with self._connection.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hmget(self._keys.job(job_id), "data", REASON_FIELD)
            answers: list[Any] = pipe.execute(raise_on_error=False)
        for job_id, answer in zip(ids, answers, strict=True):
            if not isinstance(answer, list) or not answer[0]:
                continue
            data, reason = answer
            try:
                batch = split_batch(unpack(data))
            except WireError:
                self.result.unreadable += 1
                continue
            kept = [line for line in batch.lines if not self._person.owns(batch.header.event_type, line)]
            if len(kept) < len(batch.lines):
                digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
                yield _Found(job_id, digest, len(batch.lines) - len(kept), _left(batch, kept, as_text(reason or b"")))

    def _queued(self) -> Iterator[list[str]]:
        """Pages of the queue from its end: workers take from the front, and give jobs back there."""
        end = -1
        while page := self._connection.lrange(self._keys.queue_list, end - PAGE + 1, end):
            yield [as_text(job_id) for job_id in page]
            end -= PAGE

    def _scheduled(self) -> Iterator[list[str]]:
        yield [as_text(job_id) for job_id, _ in self._connection.zscan_iter(self._keys.scheduled, count=1_000)]

    def _started(self) -> Iterator[tuple[str, ...]]:
        held = {
            as_text(member).partition(":")[0]
            for member, _ in self._connection.zscan_iter(self._keys.started, count=1_000)
        }
        yield from batched(sorted(held), PAGE)

    def _without(self, details: Any, name: str = "") -> Any:
        """An entry's details without the person's values: as text anywhere, or as a number in a personal field."""
        if isinstance(details, dict):
            return {name: self._without(value, name) for name, value in details.items()}
        if isinstance(details, list):
            return [self._without(value) for value in details]
        if name == "text" and isinstance(details, str):  # a filter's text may contain a value
            said = details.casefold()
            return ERASED if any(value.casefold() in said for value in self._person.values) else details
        named = isinstance(details, str) or ANY_TYPE.get(name) in PERSONAL
        return ERASED if named and str(details) in self._person.values else details


def _left(batch: Batch, lines: Sequence[bytes], reason: str) -> tuple[bytes, int, str]:
    """Data, bytes and description of what stays in a job; empty if nothing stays."""
    if reason or not lines:
        return rest_of(batch, lines, reason, batch.header.detail)
    header = structs.replace(batch.header, count=len(lines))
    return *repack(header, lines), f"birdfeed: {len(lines)} {header.event_type}"
