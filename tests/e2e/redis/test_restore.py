"""The restore drill of docs/how-to/deploy.md: Redis from an old copy of its append-only file."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.events import text
from tests.support.servers.redis_servers import valkey
from tests.support.servers.system import System
from tests.support.wait import eventually

#: Longer than the copy takes: an unknown outcome is not verified before.
SETTLE_SECONDS = "10"


def send(system: System, name: str) -> set[str]:
    """Send five events; returns their request ids."""
    ids = {f"{name}-{number}" for number in range(5)}
    done = system.send(("text_generation", text(request_id=one)) for one in sorted(ids))
    assert done.returncode == 0, done.stderr
    return ids


def stop_pools(system: System) -> None:
    """As `systemctl stop` does."""
    for pool in system.pools:
        pool.terminate()
        assert pool.wait(60) == 0
    system.pools.clear()


def times(system: System, ids: Iterable[str]) -> set[int]:
    """How often rows of these events are stored."""
    rows = system.rows()
    return {rows[one] for one in ids}


@pytest.mark.slow
def test_an_old_copy_of_redis_doubles_at_most_what_waited(sandbox: Sandbox, tmp_path: Path) -> None:
    """Rows of a request in flight are verified; jobs that waited in the copy are sent again; later jobs may be lost."""
    now, old = tmp_path / "now", tmp_path / "old"
    with valkey(now) as url, System(url, sandbox, tmp_path, BIRDFEED_SETTLE_SECONDS=SETTLE_SECONDS) as system:
        system.start_pool()
        written = send(system, "written")
        system.drained()
        sandbox.fault(on="events", commit_then_status=500, times=1)
        asked = send(system, "asked")
        eventually(lambda: system.redis.zcard(system.keys.scheduled) == 1, what="its outcome is unknown")
        stop_pools(system)
        waited = send(system, "waited")
        shutil.copytree(now, old)

        system.start_pool()
        system.drained()
        since = send(system, "since")
        system.drained()
        stop_pools(system)
        gone = send(system, "gone")
        assert times(system, written | asked | waited | since) == {1}

    with valkey(old) as url, System(url, sandbox, tmp_path, BIRDFEED_SETTLE_SECONDS=SETTLE_SECONDS) as system:
        assert json.loads(system.run("ledger", "--json").stdout)["balanced"]
        assert system.waiting() == 2
        system.start_pool()
        system.drained()

        assert {name: times(system, ids) for name, ids in
                (("written", written), ("asked", asked), ("waited", waited), ("since", since), ("gone", gone))} == {
            "written": {1},
            "asked": {1},  # by verification: its mark is in the copy
            "waited": {2},
            "since": {1},
            "gone": {0},
        }  # fmt: skip
        distinct = sandbox.sql("SELECT count() AS n, uniqExact(event_id) AS events FROM llm_events FINAL")[0]
        assert int(distinct["events"]) == 20
        ledger = json.loads(system.run("ledger", "--json").stdout)
        assert (ledger["balanced"], ledger["total"]["written"]) == (True, 15)
