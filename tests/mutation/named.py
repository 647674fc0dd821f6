"""Faults that once survived every test, each tried by itself: `python -m tests.mutation.named [WORD ...]`.

Prints a table: the fault, where it is, and the test that fails for it. A fault for which no test fails is reported as
surviving.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.mutation.forked import failure, install_code, install_script, load_libraries, standing_valkey

WORKER: Final = Path(__file__).resolve().parents[2] / "worker/birdfeed_worker"
UNIT: Final = "tests/unit/worker"
LEASES: Final = f"{UNIT}/queue/test_leases.py"
SETTLE: Final = f"{UNIT}/queue/test_reserve_and_settle.py"
ODD: Final = f"{UNIT}/pipeline/test_odd_jobs.py"
REFUSED: Final = f"{UNIT}/flow"
WATCHDOGS: Final = "tests/e2e/worker/test_watchdogs.py"


@dataclass(frozen=True)
class Fault:
    """A text in a file below worker/birdfeed_worker, what is put in its place, and the tests to run."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS: Final = (
    Fault(
        "the settle fence without the execution",
        "queue/lua/settle.lua",
        " or not redis.call('ZSCORE', WIP, job[1] .. ':' .. execution)",
        "",
        (LEASES, SETTLE),
    ),
    Fault("posted never cleared", "queue/lua/settle.lua", "redis.call('HDEL', key, 'bf_posted')", "", (LEASES, SETTLE)),
    Fault(
        "suspects never cleared",
        "queue/lua/settle.lua",
        "if action ~= 'suspect' then redis.call('HDEL', key, 'bf_suspect') end",
        "",
        (LEASES, SETTLE),
    ),
    Fault(
        "recover takes jobs that another holds",
        "queue/lua/recover.lua",
        " and not is_held(id, at)",
        "",
        (LEASES, SETTLE),
    ),
    Fault(
        "recover takes a dead worker's job that another has",
        "queue/lua/recover.lua",
        "(worker == '' or has[2] == worker) and ",
        "",
        (LEASES, SETTLE),
    ),
    Fault(
        "renew makes a lost lease again",
        "queue/lua/renew.lua",
        "if redis.call('ZSCORE', WIP, composite) then",
        "if true then",
        (LEASES,),
    ),
    Fault(
        "leases never renewed: the script",
        "queue/lua/renew.lua",
        "redis.call('ZADD', WIP, at + lease, composite)",
        "",
        (LEASES,),
    ),
    Fault(
        "leases never renewed: the thread",
        "process/heartbeat.py",
        'self._try("renew the lease", lambda: self._renewer.renew(jobs))',
        "pass",
        (WATCHDOGS, f"{UNIT}/process/test_loop.py"),
    ),
    Fault("no stall exit", "process/heartbeat.py", "            self._stalled()\n", "", (WATCHDOGS,)),
    Fault(
        "no silent kill",
        "process/launcher.py",
        "return now - child.last_beat > SILENT_SECONDS",
        "return False",
        (WATCHDOGS,),
    ),
    Fault(
        "a burst counted as many failures",
        "queue/lua/report.lua",
        "if backoff_until <= at then failures = add(key, 'failures', 1) end",
        "failures = add(key, 'failures', 1)",
        (REFUSED,),
    ),
    Fault(
        "a shorter wait replaces a longer one",
        "queue/lua/report.lua",
        "math.max(backoff_until, at + seconds)",
        "at + seconds",
        (REFUSED,),
    ),
    Fault(
        "a replayed row that was quarantined dies again",
        "pipeline/write.py",
        " and not (item.header.replay_id or item.header.reason)",
        "",
        (f"{UNIT}/pipeline/test_send.py",),
    ),
    Fault(
        "no limit to what a job unpacks to",
        "queue/codec.py",
        "inflate(data, MAX_UNPACKED_BYTES)",
        "inflate(data, 10**12)",
        (ODD,),
    ),
    Fault(
        "no limit to a reservation's bytes",
        "queue/lua/reserve.lua",
        " or bytes + b > most_bytes",
        "",
        (SETTLE, LEASES),
    ),
    Fault(
        "put_off loses posted",
        "pipeline/settle.py",
        'JobPlan(job, "suspect", until, maybe_written_since=job.maybe_written_since) for job in left',
        'JobPlan(job, "suspect", until) for job in left',
        (LEASES, SETTLE),
    ),
    Fault(
        "purge without its limit: whole letters",
        "operations/purge.py",
        "(room is None or sum(letter.events for letter in letters) <= room)",
        "True",
        (f"{UNIT}/operations/test_purge.py", "tests/unit/cli/test_dead_commands.py"),
    ),
    Fault(
        "purge without its limit: part of a letter",
        "operations/purge.py",
        "[:room]",
        "",
        (f"{UNIT}/operations/test_purge.py", "tests/unit/cli/test_dead_commands.py"),
    ),
    Fault(
        "an excess is written off",
        "operations/reconcile.py",
        '            if amount > 0:\n                pipe.hincrby(keys.ledger, f"purged:',
        '            if True:\n                pipe.hincrby(keys.ledger, f"purged:',
        (f"{UNIT}/monitoring/test_ledger.py",),
    ),
)


def main() -> int:
    """Exit code 1 if a fault survives."""
    words = sys.argv[1:]
    chosen = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    load_libraries()
    lived = 0
    with standing_valkey():
        for fault in chosen:
            path = WORKER / fault.file
            text = path.read_text()
            if text.count(fault.old) != 1:
                raise SystemExit(f"{fault.name}: {fault.file} holds {fault.old!r} {text.count(fault.old)} times")
            changed = text.replace(fault.old, fault.new)
            if path.suffix == ".lua":
                change = partial(install_script, path, changed)
            else:
                change = partial(install_code, path, compile(changed, str(path), "exec"))
            found = failure(change, fault.tests, 60.0)
            lived += not found
            print(f"| {fault.name} | {fault.file} | {found or '**lives**'} |", flush=True)
    print(f"{len(chosen) - lived} of {len(chosen)} die")
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())
