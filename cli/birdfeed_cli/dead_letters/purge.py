"""`birdfeed dead purge`."""

from functools import partial

from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.operations.purge import purge

from birdfeed_cli.common.confirm import confirm, must_be_answerable
from birdfeed_cli.common.console import OK, PARTLY, out, print_json
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.dead_letters.filters import Filters, choice_json, choice_words, progress, stoppable


def run_purge(filters: Filters, *, dry_run: bool, limit: int | None, yes: bool, as_json: bool) -> int:
    """Delete the selected dead events permanently. Exit code 1 if it was stopped or some can't be opened."""
    connection, keys = open_redis()
    choice = filters.named(connection, keys)
    purge_chosen = partial(purge, connection, keys, choice, limit=limit)
    if not dry_run:
        must_be_answerable(yes=yes, as_json=as_json)
        if not yes:
            planned = purge_chosen(dry_run=True)
            events = counted(planned.events, "dead event")
            question = f"Delete {events} permanently ({choice_words(choice_json(choice))})?"
            confirm(question, yes=yes)
    with stoppable() as clock, progress(connection, keys, choice, "purging", hide=as_json) as done:
        result = purge_chosen(dry_run=dry_run, stop=clock.stop.is_set, progress=done)
        stopped = clock.stop.is_set()
    counts = {"events": result.events, "dead_letters": result.letters, "unreadable": result.unreadable}
    if not dry_run:
        note(connection, keys, "purge", choice=choice_json(choice), **counts, stopped=stopped)
    if as_json:
        print_json({"dry_run": dry_run, "stopped": stopped, "vanished": result.vanished, **counts})
    else:
        what = "would be deleted" if dry_run else f"{'is' if result.events == 1 else 'are'} deleted"
        out.print(f"{counted(result.events, 'event')} of {counted(result.letters, 'dead letter')} {what}")
        if result.vanished:
            out.print(counted(result.vanished, "dead letter was already gone", "dead letters were already gone"))
        if result.unreadable:
            left = counted(result.unreadable, "dead letter was", "dead letters were")
            out.print(f"{left} not deleted: not readable, so it is unknown whose events are in there")
    return PARTLY if result.unreadable or stopped else OK
