"""The client with other threads, hooks and a Redis that hangs: no event is lost without a count."""

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import birdfeed
import pytest
from birdfeed import EventType, api
from birdfeed.client import Client
from birdfeed.logging_once import forget
from birdfeed.runtime.fork_lock import ForkLock
from birdfeed.runtime.wake import Wake
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.queued import events_in
from tests.support.wait import eventually


@pytest.fixture(autouse=True)
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Client]:
    """A client for one test, with nothing from the environment."""
    for name in [name for name in os.environ if name.startswith("BIRDFEED_") or name == "REDIS_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BIRDFEED_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("BIRDFEED_CLOSE_TIMEOUT", "60")
    forget()
    made = Client()
    before = api.use_client(made)
    yield made
    made.close(1)
    api.use_client(before)
    forget()


@pytest.fixture
def hung() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def track(times: int = 1) -> None:
    for _ in range(times):
        birdfeed.track_event("text_generation", {"model": "m"})


def balance() -> int:
    """Tracked events that are neither sent, kept nor counted."""
    stats = birdfeed.stats()
    known = stats.buffered + stats.in_flight + stats.enqueued + stats.spooled - stats.drained
    return stats.tracked - known - sum(stats.dropped.values())


def test_close_with_a_hung_redis_counts_what_is_lost(hung: str) -> None:
    """It counted none, and the events in flight were in no count."""
    birdfeed.configure(redis_url=hung, spool_bytes=0, redis_timeout=20)
    track(10)
    eventually(lambda: birdfeed.stats().in_flight == 10, what="the events are in flight")
    track(5)

    assert birdfeed.close(timeout=0.3) is False
    assert birdfeed.stats().dropped == {"closed": 15}
    assert (birdfeed.stats().in_flight, birdfeed.stats().buffered, balance()) == (0, 0, 0)


def test_close_with_a_hung_redis_leaves_all_in_the_spool(hung: str) -> None:
    """The batch in flight may be in Redis: it is marked, so that Redis accepts it once."""
    birdfeed.configure(redis_url=hung, redis_timeout=20)
    track(10)
    eventually(lambda: birdfeed.stats().in_flight == 10, what="the events are in flight")
    track(5)

    assert birdfeed.close(timeout=0.3) is True
    assert birdfeed.stats().spooled == 15
    assert birdfeed.stats().dropped == {}


def test_an_event_after_a_close_that_timed_out_is_sent(hung: str, valkey_url: str, redis: Redis, keys: Keys) -> None:
    """There was a state without a flusher, in which events were kept until the process exited."""
    birdfeed.configure(redis_url=hung, spool_bytes=0, redis_timeout=20)
    track()
    eventually(lambda: birdfeed.stats().in_flight == 1, what="the event is in flight")
    birdfeed.close(timeout=0.1)
    birdfeed.configure(redis_url=valkey_url)
    track()

    assert birdfeed.flush() is True
    assert len(events_in(redis, keys)) == 1


def test_an_event_before_configure_is_sent_by_the_environments_settings(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str, redis: Redis
) -> None:
    """Each later one is sent by configure()'s, however soon."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    monkeypatch.setenv("BIRDFEED_QUEUE", "environment")
    for _ in range(3):
        track()
        birdfeed.configure(redis_url=valkey_url, queue="configured")
        track()
        birdfeed.close()
        api.use_client(Client())

    assert len(events_in(redis, Keys("rq", "environment"))) == 3
    assert len(events_in(redis, Keys("rq", "configured"))) == 3


@pytest.mark.parametrize("end", ["configure", "close"])
def test_threads_that_track_during_close(end: str, valkey_url: str, redis: Redis, keys: Keys) -> None:
    """Eight threads, a hundred closes: every event is in Redis once."""
    birdfeed.configure(redis_url=valkey_url, flush_interval=0.01)
    threads = [threading.Thread(target=track, args=(500,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if end == "close":
            birdfeed.close()
        else:
            birdfeed.configure(redis_url=valkey_url, flush_interval=0.01)
    for thread in threads:
        thread.join()

    assert birdfeed.flush() is True
    ids = [event["event_id"] for event in events_in(redis, keys)]
    assert len(ids) == len(set(ids)) == 4_000
    assert (birdfeed.stats().dropped, birdfeed.stats().tracked) == ({}, 4_000)


def test_an_event_put_into_a_sealed_buffer_is_moved(valkey_url: str, redis: Redis, keys: Keys, client: Client) -> None:
    """By a thread that was interrupted between reading the pipeline and putting into it."""
    birdfeed.configure(redis_url=valkey_url)
    track()
    pipeline = client._pipeline
    assert pipeline is not None
    put, reached, go_on = pipeline.put, threading.Event(), threading.Event()

    def late(item: Any) -> bool:
        reached.set()
        go_on.wait(30)
        return put(item)

    pipeline.put = late
    thread = threading.Thread(target=track)
    thread.start()
    reached.wait(30)
    assert birdfeed.close() is True
    go_on.set()
    thread.join()

    assert birdfeed.flush() is True
    assert len(events_in(redis, keys)) == 2


def test_flush_and_close_inside_the_hook_do_not_deadlock(valkey_url: str, redis: Redis, keys: Keys) -> None:
    """Each waited until its timeout."""
    seen: list[bool] = []

    def hook(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(birdfeed.flush(30))
        return event

    birdfeed.configure(redis_url=valkey_url, before_send=hook)
    before = time.monotonic()
    birdfeed.track_event(EventType("a_new_type"), {"model": "m"})

    assert time.monotonic() - before < 25
    assert seen == [True]
    assert birdfeed.flush() is True


def test_flush_inside_a_delivery_returns_false_immediately(valkey_url: str) -> None:
    """For example from the credentials function, which runs in the flusher's thread."""
    asked: list[tuple[bool, bool]] = []

    def credentials() -> tuple[str]:
        asked.append((birdfeed.flush(30), birdfeed.close(30)))
        return ("none",)

    birdfeed.configure(redis_url=valkey_url, credentials=credentials, spool_bytes=0)
    track()
    before = time.monotonic()
    eventually(lambda: asked, what="it was asked")

    assert asked[0] == (False, False)
    assert time.monotonic() - before < 25


def test_a_program_with_only_bad_calls_has_its_drops_in_the_ledger(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str, redis: Redis, keys: Keys
) -> None:
    """From the first call on."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    birdfeed.track_event(EventType("text_generation"), None)  # type: ignore[call-overload]
    birdfeed.flush()

    assert redis.hget(keys.ledger, "dropped:unknown:bad_call") == b"1"


def test_which_redis_is_used_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """With the variable's name, without the password; and with the spool's path."""
    monkeypatch.setenv("REDIS_URL", valkey_url.replace("redis://", "redis://default:secret@"))
    redis.config_set("requirepass", "secret")
    try:
        with caplog.at_level(logging.INFO, "birdfeed"):
            for _ in range(2):
                track()
                assert birdfeed.flush() is True
                birdfeed.close()
    finally:
        redis.config_set("requirepass", "")

    told = [record.message for record in caplog.records if record.message.startswith("events go to")]
    assert told == [f"events go to {valkey_url.replace('redis://', 'redis://***@')}, queue birdfeed (by REDIS_URL)"]
    assert caplog.text.count("it is writable") == 1
    assert "secret" not in caplog.text


def test_a_spool_that_cannot_be_written_is_logged_at_the_start(
    valkey_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not only in the first outage."""
    (tmp_path / "file").write_text("")
    birdfeed.configure(redis_url=valkey_url, spool_dir=tmp_path / "file" / "spool")
    birdfeed.start()

    eventually(lambda: "events wait in memory only" in caplog.text, what="it is said")


def test_two_threads_fork_and_each_releases_its_own_locks() -> None:
    """One lock was never released: the second fork's timeout was taken for the first's success."""
    lock = ForkLock(0.05)
    held, go_on = threading.Event(), threading.Event()

    def fork() -> None:
        lock.hold()
        held.set()
        go_on.wait(30)
        lock.let_go()

    first = threading.Thread(target=fork)
    first.start()
    held.wait(30)

    def fork_too() -> None:
        lock.hold()
        lock.let_go()

    second = threading.Thread(target=fork_too)
    second.start()
    second.join()
    go_on.set()
    first.join()

    assert lock.acquire(5)
    lock.release()


def test_waking_is_one_step() -> None:
    """Set any number of times, from any thread; it wakes once."""
    wake = Wake()
    for _ in range(3):
        wake.set()
    before = time.monotonic()
    wake.wait(30)
    assert time.monotonic() - before < 25
    threading.Thread(target=wake.set).start()
    wake.wait(30)
    assert time.monotonic() - before < 25
    wake.wait(0)


def test_track_event_waits_for_no_other_processs_write(valkey_url: str, client: Client, tmp_path: Path) -> None:
    """durability=spool, and a process that holds the spool's write lock: 1.9 s was the longest call."""
    import sqlite3

    birdfeed.configure(
        redis_url=valkey_url, durability="spool", spool_dir=tmp_path, spool_wait=0.05, flush_interval=0.01
    )
    track()
    (path,) = tmp_path.glob("spool-*.sqlite3")
    other = sqlite3.connect(path, isolation_level=None)
    eventually(lambda: _locked(other), what="the lock")
    took = []
    for _ in range(10):
        before = time.monotonic()
        track()
        took.append(time.monotonic() - before)
    other.execute("ROLLBACK")
    other.close()

    assert sorted(took)[len(took) // 2] < 0.5  # 50 ms, and more for a slow machine
    assert birdfeed.flush() is True
    assert (birdfeed.stats().dropped, birdfeed.stats().tracked) == ({}, 11)


def _locked(connection: Any) -> bool:
    import sqlite3

    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True
