"""Poison triage: find the events that kill a worker, without letting them kill another one.

A job that was in flight when a worker died is only a suspect: the worker may have been killed from outside. Its events
are processed in a separate process, `python -m birdfeed_worker.process.poison`, with one thread and no connection. That
forks a child for each try: first for all events together, then for halves. Only the death of a child whose parent
survives counts, and an event is confirmed only if its child died three times with this event alone.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from typing import Final, TypeAlias

import orjson
from birdfeed_schemas.wire.envelope import WireError, split_batch

from birdfeed_worker.model import PoisonEvents, ReservedJob
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.delivery import valid_by_type
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.queue.codec import repack, unpack
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tiers.lookup import NoTiers
from birdfeed_worker.wiring import book_source_of

#: How often a child must die with one event alone to confirm it.
DEATHS: Final = 3
#: Seconds that a child may take: an event that takes longer is regarded as an endless loop.
CHILD_SECONDS: Final = 5.0
#: Seconds that the whole search may take.
SEARCH_SECONDS: Final = 120.0
#: Bytes of memory that a child may use beyond its parent's; with more, the kernel might kill another process.
CHILD_MEMORY: Final = 4 * 2**30

#: A job's number and a line's, from 0.
Unit: TypeAlias = tuple[int, int]


def find_poison(jobs: Sequence[ReservedJob]) -> PoisonEvents | None:
    """Which events of these suspects kill a process; None if the search itself was cut short."""
    request = orjson.dumps([{"type": job.event_type, "data": b64encode(job.data).decode()} for job in jobs])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "birdfeed_worker.process.poison"],
            input=request,
            stdout=subprocess.PIPE,
            timeout=SEARCH_SECONDS + 30,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode != 0:
        return None
    found = orjson.loads(done.stdout)
    return frozenset((jobs[number].id, line) for number, line in found)


def main() -> int:
    """Read suspects from standard input, write the confirmed ones to standard output."""
    suspects = [
        ReservedJob(
            id=str(number),
            execution="",
            data=b64decode(one["data"]),
            event_type=one["type"],
            events=1,
            size=0,
            attempts=1,
            first_reserved=0.0,
        )
        for number, one in enumerate(orjson.loads(sys.stdin.buffer.read()))
    ]
    settings = WorkerSettings.load()
    enricher = Enricher(
        book_source_of(settings),
        NoTiers(),
        extra_fields=settings.allowed_extra,
        keep_traceback=settings.keep_traceback,
    )
    confirmed = search(suspects, lambda jobs: work(jobs, enricher), time.monotonic() + SEARCH_SECONDS)
    sys.stdout.buffer.write(orjson.dumps(confirmed))
    return 0


def work(jobs: Sequence[ReservedJob], enricher: Enricher) -> None:
    """Do what a worker does with events before it sends them, only to see whether the process survives."""
    for event_type, valid in valid_by_type(decode(jobs, extra=enricher.extra_fields)):
        enricher.enrich(event_type, valid, datetime.now(UTC))


def search(
    jobs: Sequence[ReservedJob],
    work_on: Callable[[Sequence[ReservedJob]], None],
    deadline: float,
    child_seconds: float = CHILD_SECONDS,
) -> list[tuple[int, int | None]]:
    """The confirmed poison events: a job's number and a line's (None: the job as a whole).

    Args:
        jobs: Suspects.
        work_on: What a child does with some of them.
        deadline: time.monotonic() after which no further event is confirmed.
        child_seconds: Seconds that a child may take.
    """

    def dies(task: Callable[[], None], times: int = 1) -> bool:
        return not any(child_survives(task, child_seconds) for _ in range(times))

    again = DEATHS - 1  # after the first death
    if not dies(partial(work_on, jobs)):
        return []
    confirmed: list[tuple[int, int | None]] = []
    lines: list[tuple[Unit, ReservedJob]] = []
    for number, job in enumerate(jobs):
        opening = partial(_open, job)
        if not dies(opening):
            lines += [((number, line), part) for line, part in enumerate(_lines(job))]
        elif dies(opening, again):
            confirmed.append((number, None))
    waiting = [lines]
    while waiting and time.monotonic() < deadline:
        part = waiting.pop()
        working = partial(work_on, [job for _, job in part])
        if not part or not dies(working):
            continue
        if len(part) > 1:
            waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
        elif dies(working, again):
            confirmed.append(part[0][0])
    return sorted(confirmed, key=itemgetter(0))


def child_survives(task: Callable[[], None], seconds: float) -> bool:
    """Whether a forked child survives the task, within that many seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            _limit_memory()
            # What a task prints must not be mixed with the answer.
            os.dup2(2, 1)
            task()
        except BaseException:
            os._exit(1)
        os._exit(0)
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(0.005)


def _limit_memory() -> None:
    """Limit the child's memory, if the system supports it (Linux)."""
    with suppress(OSError, ValueError), open("/proc/self/statm") as statm:
        pages = int(statm.read().split()[0])
        most = pages * resource.getpagesize() + CHILD_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _open(job: ReservedJob) -> None:
    with suppress(WireError):
        split_batch(unpack(job.data))


def _lines(job: ReservedJob) -> list[ReservedJob]:
    """One job for each line of a job; empty if it is not a valid batch."""
    try:
        batch = split_batch(unpack(job.data))
    except WireError:
        return []
    return [replace(job, data=repack(batch.header, [line], level=0)[0]) for line in batch.lines]


if __name__ == "__main__":
    sys.exit(main())
