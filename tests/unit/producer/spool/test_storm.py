"""Processes that use one spool at random: each event that one of them kept is found once, through forks and kills.

They add, pack, claim, send, settle and release, hold batches past their lease, close and open, fork with and without
Python's hooks, with the parent or the child ending first; signal handlers track events inside all of that; threads
drain meanwhile. By the plan, they are also killed at any instruction and stopped past their lease; or the spool has a
bound; or its file is damaged again and again.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import orjson
import pytest
from birdfeed.encoding.batch import lines_of
from birdfeed.spool.store import Spool

from tests.support.producer.apps import spool_user

PLANS: Final = ("kills", "damage", "bound, newest", "bound, oldest")
MAGIC: Final = b"SQLite format 3\0"


class Storm:
    """One run: the processes, and what came of it."""

    def __init__(self, directory: Path, seed: str, plan: str, *, roots: int, rounds: int) -> None:
        self.directory, self.plan = directory, plan
        self.random = random.Random(seed)
        self.spool = directory / "spool" / "spool.sqlite3"
        (directory / "journals").mkdir()
        (directory / "sent").touch()  # in a short storm, all may be killed before they send
        self.spool.parent.mkdir(mode=0o700)
        self.read, write = os.pipe()
        self.errors = open(directory / "errors", "wb")  # noqa: SIM115 - closed in `run`
        self.roots = [
            subprocess.Popen(
                # From 3.12 on, Python warns of a fork beside threads, which is what happens here on purpose.
                [
                    sys.executable,
                    "-W",
                    "ignore::DeprecationWarning",
                    spool_user.__file__,
                    directory,
                    f"{seed}-{number}",
                    str(rounds),
                    plan,
                ],
                stderr=self.errors,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[write],  # it is closed when the last of all of them has ended
            )
            for number in range(roots)
        ]
        os.close(write)

    def run(self, within: float) -> None:
        """Until all processes have ended."""
        deadline = time.monotonic() + within
        os.set_blocking(self.read, False)
        try:
            while self.alive():
                assert time.monotonic() < deadline, "the processes hang"
                time.sleep(self.random.uniform(0.005, 0.03 if self.plan == "damage" else 0.2))
                if self.plan == "kills":
                    self.stop_or_kill(self.random.choice(self.roots).pid)
                elif self.plan == "damage":
                    self.write_magic(self.spool, b"damaged by a test")
        finally:
            for root in self.roots:
                self.signal(root.pid, signal.SIGKILL)
                root.wait()
            os.close(self.read)
            self.errors.close()

    def alive(self) -> bool:
        try:
            return os.read(self.read, 1) != b""
        except BlockingIOError:
            return True

    def stop_or_kill(self, group: int) -> None:
        chance = self.random.random()
        if chance < 0.02:
            self.signal(group, signal.SIGKILL)
        elif chance < 0.1:
            self.signal(group, signal.SIGSTOP)
            time.sleep(spool_user.SHORT_LEASE * 1.5)
            self.signal(group, signal.SIGCONT)

    def signal(self, group: int, number: int) -> None:
        """The groups are ours until `run` has waited for their leaders."""
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return

    def write_magic(self, path: Path, magic: bytes) -> None:
        if path.exists() and path.stat().st_size >= 4096:  # else it is still being made, and would never be a database
            file = os.open(path, os.O_WRONLY)
            os.pwrite(file, magic[:16], 0)
            os.close(file)

    # ---- what came of it

    def left(self) -> dict[str, list[str]]:
        """The events in the file and in the damaged ones, by batch."""
        batches: dict[str, list[str]] = {}
        self.write_magic(self.spool, MAGIC)
        for path in [self.spool, *self.spool.parent.glob("*.damaged-*[0-9]")]:
            self.write_magic(path, MAGIC)
            later = spool_user.clock(self.plan)() + 40  # all leases have ended
            with closing(Spool(path, max_bytes=10**8, clock=partial(float, later))) as spool:
                totals = spool.totals()
                assert totals.events == sum(one.events for one in spool.batches())
                while found := [*spool.collect(batch_events=100, batch_bytes=10**6, compression=0)[0]]:
                    batches |= {one.id: names(lines_of(one)) for one in found}
                claimed, unreadable = spool.claim(10**6)
                assert unreadable == {}
                batches |= {one.id: names(lines_of(one)) for one in claimed}
            with closing(sqlite3.connect(path)) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return batches

    def check(self) -> None:
        assert (self.directory / "errors").read_text() == ""
        journals = [
            line.split() for path in self.directory.glob("journals/*") for line in path.read_text().splitlines()
        ]
        said = {
            word: Counter(name for first, *rest in journals if first == word for name in rest)
            for word in ("try", "kept", "dropped")
        }
        dropped = sum(int(number) * times for number, times in said["dropped"].items())
        batches = self.left()
        for line in (self.directory / "sent").read_text().splitlines():
            batch, *events = line.split()
            assert batches.setdefault(batch, events) == events, "two batches of one id"
        found = Counter(name for events in batches.values() for name in events)

        assert set(found) <= set(said["try"])
        assert {name: times for name, times in found.items() if times > 1} == {}
        lost = set(said["kept"]) - set(found)
        assert len(lost) == dropped, f"lost: {sorted(lost)[:10]}"


def names(lines: Sequence[bytes]) -> list[str]:
    return [orjson.loads(line) for line in lines]


@pytest.mark.heavy
@pytest.mark.parametrize("plan", PLANS)
def test_every_event_is_found_once(tmp_path: Path, plan: str) -> None:
    """A short run of each plan."""
    storm = Storm(tmp_path, "short", plan, roots=2, rounds=25)
    storm.run(within=100)
    storm.check()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_many_storms(tmp_path: Path) -> None:
    """STORM_SECONDS of them (600), each with a seed of its own; STORM_SEED repeats one."""
    end = time.monotonic() + float(os.environ.get("STORM_SECONDS", "600"))
    given = os.environ.get("STORM_SEED")
    while time.monotonic() < end:
        seed = given or str(random.SystemRandom().randrange(10**6))
        for plan in PLANS:
            directory = tmp_path / f"{seed} {plan}"
            directory.mkdir()
            print(f"seed {seed}, plan {plan}")
            storm = Storm(directory, seed, plan, roots=4, rounds=150)
            storm.run(within=300)
            storm.check()
