"""`birdfeed resume`: resume what the circuit breaker or a refusing data source has paused."""

from typing import Any

from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.operations.resume import Resumed, resume
from redis import Redis

from birdfeed_cli.common.console import OK, out, print_json
from birdfeed_cli.common.errors import wrong_value
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.time_spans import age


def run_resume(name: str | None, breaker_off: float | None, *, as_json: bool) -> int:
    """Resume an event type, a data source or all; `breaker_off` is in seconds. Exit code 0, also if none was paused."""
    connection, keys = open_redis()
    off = breaker_off or 0.0
    done = resume_noted(connection, keys, name, off)
    if as_json:
        found = {"event_types": sorted(done.types), "datasources": sorted(done.destinations)}
        print_json({**found, "jobs": done.jobs})
        return OK
    for event_type, why in done.types.items():
        out.print(f"{event_type} is resumed; it was deferred because its events failed: {why.reason}")
    for source, state in done.destinations.items():
        out.print(f"{source} is tried again now; its last answer: {state.reason}", soft_wrap=True)
    if off:
        out.print(f"the circuit breaker is off for {age(off)}")
    if done.types or done.destinations:
        out.print(counted(done.jobs, "waiting job is due now", "waiting jobs are due now"))
    elif not off:
        out.print("nothing was paused")
    return OK


def resume_noted(connection: Redis, keys: Keys, name: str | None, breaker_off: float, **details: Any) -> Resumed:
    """Resume it, and record that in the audit log with these details; raises typer.BadParameter for an unknown name."""
    try:
        done = resume(connection, keys, name, disable_seconds=breaker_off)
    except ValueError as error:
        raise wrong_value("NAME", str(error)) from None
    what = {"types": sorted(done.types), "datasources": sorted(done.destinations), "jobs": done.jobs}
    note(connection, keys, "resume", **what, breaker_off_seconds=breaker_off, **details)
    return done
