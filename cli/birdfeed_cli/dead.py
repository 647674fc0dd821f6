"""`birdfeed dead list` and `birdfeed replay`."""

from collections.abc import Iterator

from birdfeed_schemas.keys import Keys
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.letters import Choice, DeadLetterInfo, dead_letters_of
from birdfeed_worker.replay import Order, Replay
from birdfeed_worker.settings import WorkerSettings
from redis import Redis
from rich.progress import Progress
from rich.table import Table

from birdfeed_cli.console import OK, PARTLY, UNREACHABLE, USAGE, err, fail, out, print_json
from birdfeed_cli.redis_access import Unreachable, open_redis


def run_list(reason: str | None, event_type: str | None, *, as_json: bool) -> int:
    """Print every dead letter that fits."""
    try:
        connection, keys = open_redis(WorkerSettings.load())
    except Unreachable as error:
        return fail(str(error), UNREACHABLE)
    except (ConfigurationError, ValueError) as error:
        return fail(str(error), USAGE)
    letters = list(chosen(connection, keys, reason, event_type))
    if as_json:
        print_json([describe(letter) for letter in letters])
        return OK
    if not letters:
        out.print("no dead letters")
        return OK
    out.print(dead_table(letters))
    return OK


def run_replay(reason: str | None, event_type: str | None, *, everything: bool, as_json: bool) -> int:
    """Put the dead letters that fit back into the queue. Exit code 1 if some could not be."""
    if not (reason or event_type or everything):
        return fail("say which dead letters: --reason, --type, or --all for every one", USAGE)
    try:
        connection, keys = open_redis(WorkerSettings.load())
    except Unreachable as error:
        return fail(str(error), UNREACHABLE)
    except (ConfigurationError, ValueError) as error:
        return fail(str(error), USAGE)
    choice = Choice(reason=reason, event_type=event_type)
    with Progress(console=err, transient=True, disable=as_json) as progress:
        task = progress.add_task("replaying", total=None)
        result = Replay(
            connection, keys, Order(choice=choice), progress=lambda events: progress.advance(task, events)
        ).run()
    if as_json:
        print_json(
            {
                "dead_letters": result.letters,
                "events": result.events,
                "vanished": result.vanished,
                "unreadable": result.unreadable,
            }
        )
    else:
        out.print(f"{result.events} events of {result.letters} dead letters are back in the queue")
        if result.vanished:
            out.print(f"{result.vanished} dead letters were not there any more")
        if result.unreadable:
            out.print(f"{result.unreadable} dead letters can't be opened and stay where they are")
    return PARTLY if result.vanished or result.unreadable else OK


def chosen(connection: Redis, keys: Keys, reason: str | None, event_type: str | None) -> Iterator[DeadLetterInfo]:
    """The dead letters that fit the filters."""
    yield from dead_letters_of(connection, keys, Choice(reason=reason, event_type=event_type))


def describe(letter: DeadLetterInfo) -> dict[str, object]:
    """A dead letter for machines, without its events."""
    return {
        "id": letter.id,
        "event_type": letter.event_type,
        "reason": letter.reason,
        "detail": letter.detail,
        "events": letter.events,
        "attempts": letter.attempts,
        "first_failed_at": letter.first_failed_at,
        "last_failed_at": letter.last_failed_at,
        "readable": letter.batch is not None,
    }


def dead_table(letters: list[DeadLetterInfo]) -> Table:
    """Dead letters for people, those of one reason and detail in one row."""
    groups: dict[tuple[str, str, str], list[DeadLetterInfo]] = {}
    for letter in letters:
        groups.setdefault((letter.reason, letter.event_type, letter.detail), []).append(letter)
    table = Table(title=f"{sum(letter.events for letter in letters)} dead events", title_justify="left")
    table.add_column("reason")
    table.add_column("event type")
    table.add_column("events", justify="right")
    table.add_column("last failed (UTC)")
    table.add_column("why", overflow="fold")
    for (reason, event_type, detail), group in sorted(
        groups.items(), key=lambda entry: -sum(letter.events for letter in entry[1])
    ):
        table.add_row(
            reason,
            event_type,
            str(sum(letter.events for letter in group)),
            max(letter.last_failed_at for letter in group)[:19].replace("T", " "),
            detail,
        )
    return table
