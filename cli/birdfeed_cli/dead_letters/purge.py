"""`birdfeed dead purge`."""

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.operations.purge import purge
from redis import Redis
from rich.prompt import Confirm

from birdfeed_cli.common.console import OK, PARTLY, USAGE, err, fail, out, print_json
from birdfeed_cli.common.redis_access import with_redis
from birdfeed_cli.dead_letters.filters import Filters, choice_json, choice_words, progress, stoppable


def run_purge(filters: Filters, *, dry_run: bool, limit: int | None, yes: bool, as_json: bool) -> int:
    """Delete the chosen dead events for good. Exit code 1 if it was stopped or some can't be opened."""

    def run(connection: Redis, keys: Keys) -> int:
        choice = filters.named()
        if not (dry_run or yes):
            if as_json or not err.is_terminal:
                return fail("deleting for good needs --yes where nobody can be asked", USAGE)
            planned = purge(connection, keys, choice, limit=limit, dry_run=True)
            question = f"Delete {planned.events:,} dead events for good ({choice_words(choice_json(choice))})?"
            if not Confirm.ask(question, console=err, default=False):
                return OK
        with stoppable() as clock, progress(connection, keys, choice, "purging", hide=as_json) as done:
            result = purge(
                connection, keys, choice, limit=limit, dry_run=dry_run, stop=clock.stop.is_set, progress=done
            )
            stopped = clock.stop.is_set()
        counts = {"events": result.events, "dead_letters": result.letters, "unreadable": result.unreadable}
        if not dry_run:
            note(connection, keys, "purge", choice=choice_json(choice), **counts, stopped=stopped)
        if as_json:
            print_json({"dry_run": dry_run, "stopped": stopped, "vanished": result.vanished, **counts})
        else:
            what = "would be deleted" if dry_run else "are deleted"
            out.print(f"{result.events} events of {result.letters} dead letters {what}")
            if result.vanished:
                out.print(f"{result.vanished} dead letters were not there any more")
            if result.unreadable:
                out.print(f"{result.unreadable} dead letters can't be opened, so no model or user is known; they stay")
        return PARTLY if result.unreadable or stopped else OK

    return with_redis(run)
