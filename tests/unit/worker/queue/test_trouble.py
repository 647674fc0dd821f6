"""Which errors mean that Redis is unavailable; and the worker's clock, set by Redis's."""

from types import SimpleNamespace
from typing import Any

import pytest
from birdfeed_worker.queue import redis_time as module
from birdfeed_worker.queue.kinds import WrongKindError
from birdfeed_worker.queue.redis_time import QUICK, RedisTime, redis_time
from birdfeed_worker.queue.trouble import is_unavailable
from redis import exceptions
from redis._parsers.base import BaseParser
from redis.client import Pipeline


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (exceptions.ConnectionError("away"), True),
        (exceptions.TimeoutError("away"), True),
        (exceptions.ReadOnlyError("You can't write"), True),
        (exceptions.OutOfMemoryError("full"), True),
        (exceptions.NoPermissionError("no"), True),
        (WrongKindError("rq:queue:birdfeed holds a text, not a list"), True),
        (exceptions.ResponseError("MISCONF can't save"), True),
        (exceptions.ResponseError("BUSY a script runs"), True),
        (exceptions.ResponseError("WRONGKIND rq:x"), True),
        (exceptions.ResponseError("WRONGTYPE Operation against a key"), False),
        (exceptions.ResponseError("said LOADING later"), False),
        (OSError("LOADING"), False),
        (ValueError("LOADING"), False),
    ],
    ids=str,
)
def test_whether_redis_is_unavailable(error: Exception, expected: bool) -> None:
    """An error of one command is not one of these, nor is any other error."""
    assert is_unavailable(error) is expected


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("LOADING Redis is loading the dataset in memory", True),
        ("READONLY You can't write against a read only replica.", True),
        ("OOM command not allowed when used memory > 'maxmemory'.", True),
        ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", True),
        ("CLUSTERDOWN The cluster is down", True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", True),
        ("BUSY Redis is busy running a script.", True),
        ("UNKILLABLE Sorry the script already executed write commands against the dataset.", True),
        ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", True),
        ("NOPERM this user has no permissions to run the 'evalsha' command", True),
        ("NOAUTH Authentication required.", True),
        ("WRONGPASS invalid username-password pair or user is disabled.", True),
        ("NOSCRIPT No matching script.", True),
        ("ERR unknown command", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("EXECABORT Transaction discarded because of previous errors.", False),
    ],
)
def test_what_redis_answers(answer: str, expected: bool, in_pipeline: bool) -> None:
    """As redis-py passes it on: without its first word if there is a class for it, after other text in a pipeline."""
    error: Any = BaseParser.parse_error(answer)
    if in_pipeline:
        Pipeline.annotate_exception(None, error, 2, ("SET", "of pipeline caused error: UNBLOCKED", "x"))  # type: ignore[arg-type]

    assert is_unavailable(error) is expected


class Times:
    """This machine's monotonic clock, and Redis's: the time that its answer takes, and the answer."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.takes = 0.0
        self.says = (5_000, 250_000)

    def time(self) -> tuple[int, int]:
        self.now += self.takes
        return self.says


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    made = Times()
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: 3_000.0, monotonic=lambda: made.now))
    return made


def test_redis_time(times: Times) -> None:
    """Seconds, with its microseconds."""
    connection: Any = times

    assert redis_time(connection) == pytest.approx(5_000.25, abs=1e-7)


def test_a_clock_set_by_redis(times: Times) -> None:
    """Redis's time is assumed to be that of the middle of the call; after that this machine's clock is used."""
    connection: Any = times
    clock = RedisTime()
    assert clock.time() == 3_000.0
    times.takes = 4.0

    clock.set(connection)

    assert clock.time() == pytest.approx(5_002.25, abs=1e-7)
    times.now += 10
    assert clock.time() == pytest.approx(5_012.25, abs=1e-7)


@pytest.mark.parametrize(("takes", "expected"), [(0.5, 7_000.25), (QUICK, 7_000.5), (QUICK + 1, 5_002.0)])
def test_only_a_quick_answer_sets_the_clock_again(times: Times, takes: float, expected: float) -> None:
    """A slow one is less exact than the present clock."""
    connection: Any = times
    clock = RedisTime()
    times.says = (5_000, 0)
    clock.set(connection)
    times.says, times.takes = (7_000, 0), takes

    clock.set(connection)

    assert clock.time() == pytest.approx(expected, abs=1e-7)
