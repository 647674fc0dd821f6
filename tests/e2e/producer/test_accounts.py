"""Programs that once lost events silently: each event is in the store, or counted as dropped.

The table is in docs/explanation/promises.md, too.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.producer.apps.run import APPS, ENDS, run
from tests.support.repository import ROOT
from tests.support.servers.system import System

#: Program → events that it counts as dropped, and why; no other drops any.
COUNTED: Final = {
    "closes_on_a_redis_that_hangs": (10, "no spool, and Redis answers nothing before the end"),
    "goes_on_after_a_close_that_gave_up": (3, "no spool, and Redis answered nothing before the close gave up"),
    "calls_wrongly": (4, "no event type, or no mapping"),
}
PROGRAMS: Final = (
    "configures_while_tracking",
    "closes_while_tracking",
    "configures_after_the_first_event",
    "closes_on_a_redis_that_hangs",
    "goes_on_after_a_close_that_gave_up",
    "forks_while_tracking",
    "is_killed_with_events_on_the_disk",
    "shares_its_spool",
    "has_no_rq",
    "flushes_in_a_hook",
    "calls_wrongly",
    "shares_a_track_object",
)
#: Program of ends.py → its arguments; the first number is how many events it tracks.
ENDINGS: Final = {
    "first_event_in_an_exit_hook": (5, "after import"),
    "pool_in_a_block": ("fork", 10),
    "rq_jobs": (10, "BirdfeedWorker"),
}


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    """A system on the session's Valkey, empty."""
    with System(valkey_url, sandbox, tmp_path) as system:
        system.redis.flushall()
        yield system


@pytest.mark.slow
def test_what_is_tracked_is_in_the_store_or_counted(system: System) -> None:
    """For each program; and it drops no events but those that are named here."""
    table: dict[str, tuple[int, int]] = {}
    for program in PROGRAMS:
        code, out, err = run(program, env={**system.environment, "PROGRAM": program}, script=APPS / "accounts.py")
        assert code == 0, err
        tracked, counted = map(int, out.split())
        table[program] = (tracked, counted)
    for program, arguments in ENDINGS.items():
        code, _, err = run(program, *arguments, env={**system.environment, "PROGRAM": program}, script=ENDS)
        assert code == 0, err
        table[program] = (next(one for one in arguments if isinstance(one, int)), 0)
    system.start_pool(1)
    system.drained()
    rows = system.rows("environment")

    for program, (tracked, counted) in table.items():
        sys.stdout.write(f"{program:36} tracked {tracked:6}  rows {rows[program]:6}  counted {counted:6}\n")
    assert {program: rows[program] + counted for program, (_, counted) in table.items()} == {
        program: tracked for program, (tracked, _) in table.items()
    }
    assert {program: counted for program, (_, counted) in table.items() if counted} == {
        program: counted for program, (counted, _) in COUNTED.items()
    }
    assert sum(rows.values()) == sum(tracked - counted for tracked, counted in table.values())


def test_the_docs_show_the_table() -> None:
    """With each program, and what it counts."""
    text = (ROOT / "docs" / "explanation" / "promises.md").read_text()
    for program in (*PROGRAMS, *ENDINGS):
        counted, why = COUNTED.get(program, (0, ""))
        assert f"| `{program}` | {counted}{': ' + why if why else ''} |" in text
