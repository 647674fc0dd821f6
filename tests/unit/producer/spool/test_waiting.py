"""Every use of the spool waits for its file while another process has locked it."""

import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from birdfeed.encoding.batch import PackedBatch, pack
from birdfeed.spool.store import Spool


def batch() -> PackedBatch:
    return pack("text_generation", [b"{}"], compression=0)


#: Everything that reads or writes the file.
USES: dict[str, Callable[[Spool], object]] = {
    "add": lambda spool: spool.add([batch()]),
    "claim": lambda spool: spool.claim(100),
    "totals": Spool.totals,
    "oldest_age": Spool.oldest_age,
    "batches": Spool.batches,
    "shrink": Spool.shrink,
}


@pytest.mark.parametrize("made", [False, True], ids=["while it is made", "later"])
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_every_use_waits_for_a_lock(tmp_path: Path, use: Callable[[Spool], object], made: bool) -> None:
    """Another process creates it, or locks it like a copying program.

    Reads failed immediately with "database is locked".
    """
    path = tmp_path / "spool.sqlite3"
    if made:
        with closing(Spool(path, max_bytes=10**6)) as first:
            first.add([batch()])
    with (
        closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other,
        closing(Spool(path, max_bytes=10**6, busy_seconds=60)) as spool,
    ):
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        tried = threading.Event()
        connect = spool._file._connect

        def noted() -> sqlite3.Connection:
            try:
                return connect()
            except sqlite3.OperationalError:
                tried.set()
                raise

        spool._file._connect = noted  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as pool:
            using = pool.submit(use, spool)
            assert tried.wait(60)
            other.close()
            using.result(60)
