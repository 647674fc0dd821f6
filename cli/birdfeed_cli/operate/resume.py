"""`birdfeed resume`: resume what the circuit breaker or a refusing data source has stopped."""

import time

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.operations.resume import resume
from redis import Redis

from birdfeed_cli.common.console import OK, out, print_json
from birdfeed_cli.common.redis_access import with_redis
from birdfeed_cli.common.time_spans import seconds


def run_resume(name: str | None, breaker_off: str | None, *, as_json: bool) -> int:
    """Resume. Exit code 0, also if nothing was stopped."""

    def run(connection: Redis, keys: Keys) -> int:
        off = 0.0 if breaker_off is None else seconds(breaker_off)
        done = resume(connection, keys, name, disable_seconds=off, now=time.time())
        note(
            connection,
            keys,
            "resume",
            types=sorted(done.types),
            datasources=sorted(done.destinations),
            jobs=done.jobs,
            breaker_off_seconds=off,
        )
        if as_json:
            print_json({"event_types": sorted(done.types), "datasources": sorted(done.destinations), "jobs": done.jobs})
            return OK
        for event_type, why in done.types.items():
            out.print(f"{event_type} resumes; it was deferred because its events died of {why.reason}", markup=False)
        for source, state in done.destinations.items():
            out.print(f"{source} is tried at once; it had said: {state.reason}", markup=False, soft_wrap=True)
        if off:
            out.print(f"the circuit breaker is off for {breaker_off}")
        if done.types or done.destinations:
            out.print(f"{done.jobs} waiting jobs are due now")
        elif not off:
            out.print("nothing was stopped")
        return OK

    return with_redis(run)
