"""Erase one person's events from a spool: all others stay, and nothing of the person's is left in the files."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from birdfeed.encoding.batch import lines_of, pack
from birdfeed.spool.forget import Forgotten, forget
from birdfeed.spool.store import Spool


def line(user: str) -> bytes:
    return orjson.dumps({"event_id": "0", "occurred_at": "2026-11-01T00:00:00Z", "data": {"user": user}})


def is_anns(event_type: str, one: bytes) -> bool:
    return bool(orjson.loads(one)["data"]["user"] == "marker-ann")


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with closing(Spool(tmp_path / "spool.sqlite3", max_bytes=10**6)) as spool:
        yield spool


def test_only_the_persons_events_are_erased(spool: Spool) -> None:
    """From batches and single events.

    A batch with only the person's events is deleted, and all are reported to the ledger.
    """
    spool.add([pack("text_generation", [line("marker-ann"), line("bob")], compression=0)])
    spool.add([pack("text_generation", [line("marker-ann")], compression=0)])
    spool.add_event("image_generation", line("marker-ann"), 0)
    spool.add_event("image_generation", line("bob"), 0)

    planned = forget(spool.path, is_anns, dry_run=True)
    untouched = spool.totals()
    done = forget(spool.path, is_anns)

    assert planned == done == Forgotten(events=3)
    assert untouched.events == 5
    assert (spool.totals().events, spool.totals().reports) == (2, 3)
    (left,), unreadable = spool.claim(99)
    assert [orjson.loads(one)["data"]["user"] for one in lines_of(left)] == ["bob"]
    assert (left.events, unreadable) == (1, {})
    reports = [spool.claim_report() for _ in range(3)]
    assert [drops for report in reports if report for drops in [report[1]]] == [
        {("image_generation", "forgotten"): 1},
        {("text_generation", "forgotten"): 1},
        {("text_generation", "forgotten"): 1},
    ]
    # Triggers keep the totals; they equal what is in the tables.
    assert spool.totals().events == sum(one.events for one in spool.batches())


def test_nothing_is_left_in_the_files(spool: Spool) -> None:
    """SQLite keeps deleted rows in free pages, and in its log, unless configured otherwise."""
    spool.add([pack("text_generation", [line("marker-ann"), line("bob")], compression=0) for _ in range(50)])
    assert any(b"marker-ann" in file.read_bytes() for file in spool.path.parent.iterdir())

    forget(spool.path, is_anns)

    left = {file.name: file.read_bytes().count(b"marker-ann") for file in spool.path.parent.iterdir()}
    assert set(left.values()) == {0}, left
    assert spool.totals().events == 50


def test_what_a_process_is_sending_stays(spool: Spool) -> None:
    """It is counted, and not changed, as that process has it in memory."""
    spool.add([pack("text_generation", [line("marker-ann")], compression=0)])
    (claimed,), _ = spool.claim(99)

    assert forget(spool.path, is_anns) == Forgotten(being_sent=1)

    spool.release([claimed], unsure=False)
    assert forget(spool.path, is_anns) == Forgotten(events=1)


def test_a_damaged_batch_is_counted(spool: Spool) -> None:
    """The users of its events can't be read."""
    spool.add([pack("text_generation", [line("marker-ann")], compression=0)])
    with spool._file.transaction() as db:
        db.execute("UPDATE batches SET data = x'00'")

    assert forget(spool.path, is_anns) == Forgotten(unreadable=1)
