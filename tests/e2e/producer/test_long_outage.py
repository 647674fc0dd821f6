"""Thirty minutes without Redis at 1,000 events a second: the clock is moved, everything else is real."""

import resource
import sys
from pathlib import Path

import pytest
from birdfeed.transport.enqueuer import Outcome

from tests.support.producer.fakes import Bench

#: Bytes of the spool; small enough to be full after a few minutes.
SPOOL_BYTES = 8_000_000
ROUNDS_A_SECOND = 5
EVENTS_A_ROUND = 200


def memory() -> int:
    """Bytes of memory this process has now (on Linux), or had at most (elsewhere)."""
    if sys.platform == "linux":
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("policy", ["newest", "oldest"])
def test_thirty_minutes_without_redis(tmp_path: Path, policy: str) -> None:
    """Memory stays flat, the spool stays at its bound, every drop is counted.

    Afterwards all kept events are sent once.
    """
    # "oldest" writes every event to disk, which takes longer: a third of the time is enough.
    minutes = 30 if policy == "newest" else 10
    bench = Bench(tmp_path, spool_bytes=SPOOL_BYTES, drop_policy=policy, spool_drain_rate=5_000)
    assert bench.spool is not None
    bench.track(10)
    bench.round()
    assert len(bench.redis.event_ids) == 10

    bench.redis.mood = Outcome.REFUSED
    tracked, sizes = 10, []
    for minute in range(minutes):
        for _ in range(60 * ROUNDS_A_SECOND):
            bench.track(EVENTS_A_ROUND)
            assert bench.round(1 / ROUNDS_A_SECOND) is True
            assert len(bench.buffer) == 0
        tracked += 60 * ROUNDS_A_SECOND * EVENTS_A_ROUND
        sizes.append(memory())
        assert bench.spool.totals().bytes <= SPOOL_BYTES, minute
    kept = bench.spool.totals().events
    assert bench.spool.totals().bytes > 0.9 * SPOOL_BYTES
    assert bench.counters.dropped() == {"spool_full": tracked - 10 - kept}
    assert max(sizes[3:]) - sizes[2] < 10_000_000
    # One connection try a second, not one for each of five flushes.
    assert bench.redis.tries <= minutes * 60 + 2

    bench.redis.mood = Outcome.ACCEPTED
    seconds = 0.0
    while bench.spool.totals().events:
        bench.round(0.2)
        seconds += 0.2
        assert seconds < 3 * kept / 5_000 + 10
    bench.round(2)
    assert len(bench.redis.event_ids) == len(set(bench.redis.event_ids)) == kept + 10
    assert seconds > 0.8 * kept / 5_000
    assert bench.redis.dropped == {("text_generation", "spool_full"): tracked - 10 - kept}
    # accepted = in Redis + dropped: the ledger's sum.
    assert kept + 10 + sum(bench.redis.dropped.values()) == tracked
    bench.close()
