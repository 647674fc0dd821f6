"""The functions behind `birdfeed spool list` and `birdfeed spool drain`."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from birdfeed.delivery.spool_drain import drain, spool_files
from birdfeed.encoding.batch import pack
from birdfeed.errors import SpoolError
from birdfeed.options import Options
from birdfeed.spool.store import Spool
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.fakes import REDIS_URL, Clock
from tests.support.producer.queued import assert_balanced, batches_in


@pytest.fixture
def live(valkey_url: str, tmp_path: Path) -> Options:
    return Options(redis_url=valkey_url, spool_dir=tmp_path / "spool", batch_events=10)


@pytest.fixture
def spool(live: Options) -> Iterator[Spool]:
    made = Spool.of(live)
    yield made
    made.close()


def fill(spool: Spool, batches: int = 5) -> None:
    spool.add([pack("text_generation", [b'{"event_id":"x"}'] * 10, compression=1) for _ in range(batches)])


def test_batches_single_events_and_reports_are_sent(live: Options, spool: Spool, redis: Redis, keys: Keys) -> None:
    """All that a spool may contain."""
    fill(spool)
    for _ in range(15):
        spool.add_event("image_generation", b'{"event_id":"y"}', 0)
    spool.add_report("r", {("text_generation", "spool_full"): 7})
    progress: list[int] = []

    done = drain(live, on_progress=progress.append)

    assert (done.events, done.batches, done.dropped, done.redis) == (65, 7, 0, "up")
    assert (done.left.events, done.left.reports) == (0, 0)
    assert progress[-1] == 65
    assert sum(len(events) for _, events in batches_in(redis, keys)) == 65
    assert redis.hget(keys.ledger, "dropped:text_generation:spool_full") == b"7"
    assert_balanced(redis, keys)


def test_an_empty_or_missing_spool(live: Options) -> None:
    """Without an outage there is no file."""
    done = drain(live)

    assert (done.events, done.left.events, done.redis) == (0, 0, "unknown")
    assert spool_files(live) == ([], [])


def test_without_redis_everything_stays(live: Options, spool: Spool) -> None:
    """And the drain fails immediately."""
    fill(spool)
    gone = replace(live, redis_url=REDIS_URL)

    done = drain(gone, path=spool.path)

    assert (done.events, done.left.events, done.redis) == (0, 50, "down")


def test_a_spool_of_a_redis_that_has_moved(live: Options, redis: Redis, tmp_path: Path) -> None:
    """It is drained by its path into the present Redis."""
    old = Spool.of(Options(redis_url=REDIS_URL, spool_dir=tmp_path / "spool"))
    fill(old)
    old.close()
    (found,), damaged = spool_files(live)
    assert (found, damaged) == (old.path, [])

    assert drain(live, path=found).events == 50


def test_what_another_process_is_sending_is_skipped(live: Options, spool: Spool, redis: Redis) -> None:
    """The drain still finishes."""
    fill(spool, 2)
    spool.claim(10)

    done = drain(live, sleep=lambda seconds: None)

    assert (done.events, done.left.events) == (10, 10)
    assert [batch.held for batch in spool.batches()] == [True]


def test_it_keeps_to_a_rate(live: Options, spool: Spool, redis: Redis) -> None:
    """Fifty events a second: a hundred take more than a second."""
    fill(spool, 10)
    seconds = Clock(0)

    def sleep(wait: float) -> None:
        import time

        seconds.now += wait
        time.sleep(wait)

    done = drain(live, rate=50, sleep=sleep)

    assert done.events == 100
    assert 1 < seconds.now < 4


def database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (precious TEXT)")


@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_text("precious"), database, lambda path: path.mkdir(), lambda path: None],
    ids=["text", "another database", "a folder", "nothing"],
)
def test_a_file_that_is_not_a_spool_is_not_changed(live: Options, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A wrong path is an error, and nothing in it is changed, moved or created."""
    path = tmp_path / "notes.txt"
    make(path)
    before = path.read_bytes() if path.is_file() else None

    with pytest.raises(SpoolError, match=r"notes\.txt is not a birdfeed spool"):
        drain(live, path=path)

    assert (path.read_bytes() if path.is_file() else None) == before
    assert [one.name for one in tmp_path.iterdir() if "notes" in one.name] == (["notes.txt"] if path.exists() else [])


def test_damaged_files_are_listed(live: Options, spool: Spool) -> None:
    """So an operator finds them."""
    fill(spool)
    spool.close()
    spool.path.write_bytes(b"text" * 1000)
    drain_error = None
    try:
        drain(live)
    except Exception as error:
        drain_error = type(error).__name__

    whole, damaged = spool_files(live)
    assert drain_error in (None, "SpoolError")
    assert len(damaged) == 1
    assert len(whole) <= 1
