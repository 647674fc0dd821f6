"""`birdfeed resume`: resume what the circuit breaker or a refusing data source has paused."""

from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.operations.resume import resume

from birdfeed_cli.common.console import OK, out, print_json
from birdfeed_cli.common.errors import wrong_value
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.time_spans import age


def run_resume(name: str | None, breaker_off: float | None, *, as_json: bool) -> int:
    """Resume it. Exit code 0, also if nothing was paused.

    Args:
        name: An event type or a data source; None for all.
        breaker_off: Seconds for which the circuit breaker is off.
        as_json: Print JSON.
    """
    connection, keys = open_redis()
    off = breaker_off or 0.0
    try:
        done = resume(connection, keys, name, disable_seconds=off)
    except ValueError as error:
        raise wrong_value("NAME", str(error)) from None
    types, sources = sorted(done.types), sorted(done.destinations)
    note(connection, keys, "resume", types=types, datasources=sources, jobs=done.jobs, breaker_off_seconds=off)
    if as_json:
        print_json({"event_types": types, "datasources": sources, "jobs": done.jobs})
        return OK
    for event_type, why in done.types.items():
        out.print(f"{event_type} is resumed; it was deferred because its events failed: {why.reason}")
    for source, state in done.destinations.items():
        out.print(f"{source} is tried again now; its last answer: {state.reason}", soft_wrap=True)
    if off:
        out.print(f"the circuit breaker is off for {age(off)}")
    if done.types or done.destinations:
        out.print(f"{done.jobs} waiting jobs are due now")
    elif not off:
        out.print("nothing was paused")
    return OK
