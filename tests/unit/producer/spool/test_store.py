"""The spool: bounded, leased, shared, and safe for the process that uses it."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from birdfeed.encoding.batch import PackedBatch, lines_of, pack
from birdfeed.errors import SpoolError
from birdfeed.spool.database import ROW_OVERHEAD
from birdfeed.spool.location import spool_path
from birdfeed.spool.store import LEASE_SECONDS, Spool

from tests.support.producer.fakes import Clock, options


def batch(events: int = 2, size: int = 100) -> PackedBatch:
    return pack("text_generation", [os.urandom(size // 2).hex().encode()] * events, compression=0)


_opened: list[Spool] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_spool(path: Path, **options: Any) -> Spool:
    """A spool that is closed after the test."""
    spool = Spool(path, **{"max_bytes": 10**6, **options})
    _opened.append(spool)
    return spool


def make(folder: Path, clock: Clock, **options: Any) -> Spool:
    return open_spool(folder / "spool.sqlite3", clock=clock, **options)


@pytest.fixture
def spool(tmp_path: Path, clock: Clock) -> Spool:
    return make(tmp_path, clock)


def test_nothing_is_created_before_it_is_needed(spool: Spool) -> None:
    """A process without an outage has no file."""
    assert not spool.exists()


def test_kept_batches_are_returned_oldest_first(spool: Spool) -> None:
    """Unchanged, and only while no process has claimed them."""
    batches = [batch() for _ in range(3)]
    assert spool.add(batches) == (6, {})

    claimed, unreadable = spool.claim(4)
    assert claimed == batches[:2]
    assert unreadable == {}
    assert spool.claim(100)[0] == batches[2:]
    assert spool.claim(100)[0] == []


def test_at_least_one_batch_is_claimed(spool: Spool) -> None:
    """A batch larger than what may be sent now is still sent."""
    spool.add([batch(events=50)])

    assert len(spool.claim(1)[0]) == 1


def test_the_same_batch_is_kept_once(spool: Spool) -> None:
    """Because a commit without an answer is tried again."""
    one = batch()
    spool.add([one])
    spool.add([one])

    assert spool.totals().events == 2


def test_settled_batches_are_deleted(spool: Spool) -> None:
    """And their bytes are free again."""
    spool.add([batch(), batch()])
    claimed, _ = spool.claim(100)
    spool.settle(claimed)

    totals = spool.totals()
    assert (totals.events, totals.bytes) == (0, 0)


@pytest.mark.parametrize("unsure", [False, True])
def test_released_batches_can_be_claimed_again(spool: Spool, unsure: bool) -> None:
    """Marked as retried if Redis may have them."""
    one = batch()
    spool.add([one])
    spool.release(spool.claim(100)[0], unsure=unsure)

    (again,) = spool.claim(100)[0]
    assert (again.id, again.retried, lines_of(again)) == (one.id, unsure, lines_of(one))
    spool.settle([again])
    assert spool.totals().bytes == 0


def test_a_dead_holders_batches_are_free_after_the_lease(tmp_path: Path, clock: Clock) -> None:
    """It may have sent them, so they are marked as retried."""
    dead, other = make(tmp_path, clock), make(tmp_path, clock)
    dead.add([batch()])
    (held,) = dead.claim(100)[0]

    clock.now += LEASE_SECONDS - 1
    assert other.claim(100)[0] == []
    clock.now += 2
    (taken,) = other.claim(100)[0]
    assert (taken.id, taken.retried) == (held.id, True)

    dead.settle([held])  # it was only slow; the batch is another's now
    assert other.totals().events == 2
    other.settle([taken])
    assert other.totals().events == 0


@pytest.mark.parametrize(("drop_oldest", "kept"), [(False, [0, 1, 2]), (True, [2, 3, 4])])
def test_over_the_bound_the_policy_decides(tmp_path: Path, clock: Clock, drop_oldest: bool, kept: list[int]) -> None:
    """Five batches into room for three; dropped batches are returned."""
    batches = [batch() for _ in range(5)]
    room = 3 * (len(batches[0].data) + ROW_OVERHEAD) + 50
    spool = make(tmp_path, clock, max_bytes=room, drop_oldest=drop_oldest)

    kept_events, dropped = spool.add(batches)

    assert dropped == {("text_generation", "spool_full"): 4}
    assert kept_events == (10 if drop_oldest else 6)
    assert [one.id for one in spool.claim(100)[0]] == [batches[at].id for at in kept]
    assert spool.totals().bytes <= room


def test_what_is_being_sent_is_not_dropped(tmp_path: Path, clock: Clock) -> None:
    """It would be counted as dropped and still be sent."""
    first, second, third = batch(), batch(), batch()
    spool = make(tmp_path, clock, max_bytes=2 * (len(first.data) + ROW_OVERHEAD), drop_oldest=True)
    spool.add([first])
    spool.claim(100)

    spool.add([second])
    assert spool.add([third])[1] == {("text_generation", "spool_full"): 2}
    assert [one.id for one in spool.batches()] == [first.id, third.id]


def test_a_batch_that_can_never_fit_is_dropped(tmp_path: Path, clock: Clock) -> None:
    """With either policy."""
    for number, drop_oldest in enumerate((False, True)):
        spool = open_spool(tmp_path / str(number), max_bytes=100, drop_oldest=drop_oldest, clock=clock)
        assert spool.add([batch()]) == (0, {("text_generation", "spool_full"): 2})


@pytest.mark.parametrize(("drop_oldest", "kept"), [(False, [0, 1, 2]), (True, [2, 3, 4])])
def test_single_events_have_the_same_bound(tmp_path: Path, clock: Clock, drop_oldest: bool, kept: list[int]) -> None:
    """They count towards it until they are packed into batches."""
    spool = make(tmp_path, clock, max_bytes=3 * (10 + ROW_OVERHEAD), drop_oldest=drop_oldest)
    dropped = 0
    for number in range(5):
        dropped += sum(spool.add_event("text_generation", b"%010d" % number, 0)[1].values())

    (collected,), _ = spool.collect(batch_events=10, batch_bytes=1000, compression=1)
    assert dropped == 2
    assert [int(line) for line in lines_of(collected)] == kept


def test_single_events_become_batches_that_are_held(tmp_path: Path, clock: Clock) -> None:
    """If the process that packs them crashes, the next process sends the same batches."""
    dead, other = make(tmp_path, clock), make(tmp_path, clock)
    for number in range(5):
        dead.add_event("ab"[number % 2], b"%d" % number, number)

    collected, dropped_fields = dead.collect(batch_events=2, batch_bytes=1000, compression=1)

    assert dropped_fields == 10
    assert sorted((one.event_type, lines_of(one)) for one in collected) == [
        ("a", (b"0", b"2")),
        ("a", (b"4",)),
        ("b", (b"1", b"3")),
    ]
    assert dead.collect(batch_events=2, batch_bytes=1000, compression=1) == ([], 0)
    assert other.claim(100)[0] == []
    clock.now += LEASE_SECONDS + 1
    assert {one.id for one in other.claim(100)[0]} == {one.id for one in collected}


def test_reports_are_claimed_and_settled(spool: Spool, clock: Clock) -> None:
    """One at a time; a dead process's report is free after the lease."""
    drops = {("text_generation", "spool_full"): 3}
    spool.add_report("r1", drops)

    assert spool.claim_report() == ("r1", drops)
    assert spool.claim_report() is None
    clock.now += LEASE_SECONDS + 1
    assert spool.claim_report() == ("r1", drops)
    spool.settle_report("r1")
    clock.now += LEASE_SECONDS + 1
    assert spool.claim_report() is None


def test_concurrent_drainers_never_share_a_batch(tmp_path: Path) -> None:
    """Four spools on one file claim at the same time: each batch has one holder."""
    filler = open_spool(tmp_path / "spool.sqlite3", max_bytes=10**7)
    batches = [batch() for _ in range(100)]
    filler.add(batches)
    claimed: list[str] = []

    def drain() -> None:
        mine = open_spool(tmp_path / "spool.sqlite3", max_bytes=10**7, busy_seconds=10)
        while taken := mine.claim(4)[0]:
            claimed.extend(one.id for one in taken)
            mine.settle(taken)
        mine.close()

    threads = [threading.Thread(target=drain) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(claimed) == sorted(one.id for one in batches)
    assert filler.totals().events == 0


@pytest.mark.parametrize("damage", ["header", "middle", "empty", "text"])
def test_a_damaged_file_is_renamed(tmp_path: Path, clock: Clock, damage: str) -> None:
    """The next use has a new one; the old one is kept for an operator."""
    spool = make(tmp_path, clock)
    spool.add([batch(size=2000) for _ in range(20)])
    spool.close()
    path = tmp_path / "spool.sqlite3"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "header": b"\xff" * 100 + whole[100:],
            "middle": whole[:4096] + b"\xff" * (len(whole) - 4096),
            "empty": b"",
            "text": b"this is no database, and long enough to be looked at as one" * 100,
        }[damage]
    )

    for _ in range(2):  # the first use finds the damage
        try:
            spool.add([batch()])
            spool.claim(1)
        except SpoolError as error:
            assert "can't be used" in str(error)  # noqa: PT017 - it may, or may not, be noticed at once
    assert spool.add([batch()])[0] == 2
    assert spool.claim(1)[0]
    set_aside = [found for found in os.listdir(tmp_path) if ".damaged-" in found]
    assert bool(set_aside) == (damage != "empty")


def test_a_damaged_batch_is_counted_alone(tmp_path: Path, clock: Clock) -> None:
    """Its bytes changed on disk: it is counted, the others are sent."""
    spool = make(tmp_path, clock)
    good, bad = batch(), batch(3)
    spool.add([bad, good])
    with sqlite3.connect(tmp_path / "spool.sqlite3") as db:
        db.execute("UPDATE batches SET data = zeroblob(length(data)) WHERE id = ?", (bad.id,))
    db.close()

    claimed, unreadable = spool.claim(100)

    assert claimed == [good]
    assert unreadable == {("text_generation", "spool_unreadable"): 3}
    assert [one.id for one in spool.batches()] == [good.id]


def test_a_removed_file_is_created_again(tmp_path: Path, clock: Clock) -> None:
    """After a clean-up, writing further into the deleted file would lose events."""
    spool = make(tmp_path, clock)
    spool.add([batch()])
    for found in tmp_path.iterdir():
        found.unlink()

    spool.add([batch()])
    assert spool.totals().events == 2
    assert (tmp_path / "spool.sqlite3").exists()


@pytest.mark.parametrize("made", [True, False], ids=["in use", "being made"])
def test_a_write_of_another_process_is_waited_for(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """Also at the first use, while another process creates the file, as durability=spool needs the event on disk."""
    if made:
        with closing(open_spool(tmp_path / "spool.sqlite3", clock=clock)) as other:
            other.add([batch()])
    writer = sqlite3.connect(tmp_path / "spool.sqlite3", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    pauses = []

    def end_of_write(seconds: float) -> None:
        pauses.append(seconds)
        writer.close()

    monkeypatch.setattr("birdfeed.spool.database.time.sleep", end_of_write)

    spool = open_spool(tmp_path / "spool.sqlite3", busy_seconds=60, clock=clock)
    assert spool.add([batch(events=2)]) == (2, {})
    assert len(pauses) == 1


def test_a_long_write_of_another_process_is_reported_as_such(tmp_path: Path, clock: Clock) -> None:
    """The caller keeps its events and tries again."""
    spool = open_spool(tmp_path / "spool.sqlite3", max_bytes=10**6, busy_seconds=0.05, clock=clock)
    spool.add([batch()])
    writer = sqlite3.connect(tmp_path / "spool.sqlite3", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolError, match="locked"):
        spool.add([batch()])
    writer.execute("ROLLBACK")
    writer.close()

    assert spool.add([batch()])[0] == 2


@pytest.mark.parametrize("back", [3_600.0, 10**6])
def test_a_claim_expires_with_the_lease_whatever_the_clock_did(tmp_path: Path, clock: Clock, back: float) -> None:
    """Claimed by a process that crashed before the clock was set back, or before the host was restarted."""
    dead, other = make(tmp_path, clock), make(tmp_path, clock)
    dead.add([batch()])
    assert len(dead.claim(100)[0]) == 1
    clock.now -= back

    assert len(other.claim(100)[0]) == 1


def test_single_events_are_listed(spool: Spool) -> None:
    """Those of durability=spool, before they are packed: no other list has them."""
    spool.add_event("text_generation", b"{}", 0)
    spool.add_event("text_generation", b"{}", 0)

    assert [(one.id, one.event_type, one.events, one.bytes) for one in spool.batches()] == [
        ("", "text_generation", 2, 4)
    ]


def test_a_directory_that_cannot_be_created_is_reported_as_such(tmp_path: Path, clock: Clock) -> None:
    """A file is in its place."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="can't be created"):
        open_spool(tmp_path / "file" / "spool", max_bytes=10**6, clock=clock).add([batch()])


def test_each_target_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Staging is never drained into production; a rotated password doesn't change the file."""
    one = "redis://user:secret@host:6379/0"
    names = [
        spool_path(options(spool_dir=tmp_path, redis_url=url, **more))
        for url, more in [
            (one, {}),
            ("redis://user:rotated@host:6379/0", {}),
            ("redis://host:6379/1", {}),
            ("redis://other:6379/0", {}),
            (one, {"queue": "staging"}),
            (one, {"key_prefix": "other"}),
            ("unix:///run/redis.sock?db=0", {}),
            ("unix:///run/redis.sock?db=1", {}),
        ]
    ]

    assert names[0] == names[1]
    assert len(set(names)) == 7
    assert "secret" not in str(names)
