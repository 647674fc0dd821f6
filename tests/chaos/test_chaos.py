"""Chaos: everything breaks, at random, while producers run; in the end every event is in the store once.

A failing seed is printed, and `BIRDFEED_CHAOS_SEED=<seed>` runs its schedule again.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox.server import Sandbox

from tests.chaos.monkey import SETTLE, Monkey
from tests.e2e.producer_apps.run import Server
from tests.support.system import System

TRAFFIC = Path(__file__).with_name("traffic.py")
SEEDS = [int(os.environ["BIRDFEED_CHAOS_SEED"])] if "BIRDFEED_CHAOS_SEED" in os.environ else [1, 2, 3, 4, 5]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        # Replacing merges would hide a duplicate from the count.
        sandbox.sql("SYSTEM STOP MERGES")
        yield sandbox


def storm(seed: int, seconds: float, sandbox: Sandbox, folder: Path) -> None:
    """Traffic of two producers under a seeded schedule of faults, then calm, then the reckoning."""
    with (
        Server(folder / "valkey") as redis,
        System(redis.url, sandbox, folder, BIRDFEED_SETTLE_SECONDS=str(SETTLE), BIRDFEED_READ_TIMEOUT="3") as system,
    ):
        system.start_pool(2)
        accepted = folder / "accepted.txt"
        producers = [produce(number, accepted, system) for number in range(2)]
        monkey = Monkey(seed, system, redis)
        history = []
        try:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                history.append(monkey.act())
        finally:
            sandbox.clear_faults()
            for producer in producers:
                producer.terminate()
        story = f"seed {seed}: {history}"
        for producer in producers:
            assert producer.wait(90) == 0, story
        system.drained(within=120)
        ids = accepted.read_text().split()
        rows = system.rows()
        dead = system.dead_ids()
        lost = [one for one in ids if not rows[one] and one not in dead]
        twice = {one: count for one, count in rows.items() if count > 1}
        print(f"{story}\n{len(ids)} accepted, {len(rows)} written, {len(dead)} dead, {len(twice)} twice")
        assert lost == [], f"{len(lost)} events lost; {story}"
        assert dead == [], f"wrongly dead: {[letter.reason for letter in system.dead()]}; {story}"
        assert twice == {}, f"{len(twice)} rows doubled; {story}"
        assert set(rows) == set(ids), story
        assert total(system, "written") == len(ids), story
        assert total(system, "accepted") == len(ids), story


def produce(number: int, accepted: Path, system: System) -> subprocess.Popen[bytes]:
    """A producer of 150 events a second with a spool of its own."""
    with (system.folder / f"producer{number}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, TRAFFIC, accepted, "150", f"p{number}"],
            env={**system.environment, "BIRDFEED_SPOOL_DIR": str(system.folder / f"spool{number}")},
            stdout=log,
        )


def total(system: System, what: str) -> int:
    """The ledger's count of one kind, over all types."""
    return sum(count for name, count in system.ledger().items() if name.startswith(f"{what}:"))


@pytest.mark.timeout(240)
def test_a_short_storm(sandbox: Sandbox, tmp_path: Path) -> None:
    """Twenty seconds of it."""
    storm(SEEDS[0], 20, sandbox, tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm(seed: int, sandbox: Sandbox, tmp_path: Path) -> None:
    """Ninety seconds for each seed."""
    storm(seed, 90, sandbox, tmp_path)
