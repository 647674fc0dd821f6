"""The filters of the `birdfeed dead` commands, and how a long command is stopped."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from types import FrameType
from typing import Any

from birdfeed_schemas.registry import registry
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.query import Choice, letters_of
from birdfeed_worker.monitoring.counters import ledger_counts
from birdfeed_worker.monitoring.ledger import Account, accounts_of
from birdfeed_worker.monitoring.minutes import DEAD_REASONS
from redis import Redis
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from birdfeed_cli.common.console import err, warn
from birdfeed_cli.common.errors import WrongUse, wrong_value
from birdfeed_cli.common.options import unknown_value


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters as they were typed; `everything` is --all: select everything on purpose."""

    given: Choice = Choice()  # noqa: RUF009 - it is frozen
    everything: bool | None = None

    def choice(self, connection: Redis, keys: Keys) -> Choice:
        """The dead events that they select.

        Raises:
            typer.BadParameter: The reason or the event type is unknown, and no dead event ever had it.
        """
        accounts = _accounts(connection, keys)
        reasons = DEAD_REASONS.union(*(account.dead for account in accounts.values()))
        for option, what, value, known in (
            ("--reason", "a reason", self.given.reason, reasons),
            ("--type", "an event type", self.given.event_type, {*registry(), *accounts}),
        ):
            if value is not None and value not in known:
                raise wrong_value(option, unknown_value(what, value, known))
        return self.given

    def named(self, connection: Redis, keys: Keys) -> Choice:
        """The same, for commands that change something: they need a filter or --all.

        Raises:
            WrongUse: There is neither.
            typer.BadParameter: As in choice().
        """
        choice = self.choice(connection, keys)
        if choice.everything and not self.everything:
            raise WrongUse("choose dead letters: give --reason, --type or another filter, or --all for all of them")
        return choice


def choice_json(choice: Choice) -> dict[str, Any]:
    """A choice for the audit log; choice_from reads it back."""
    given = {name: value for name, value in asdict(choice).items() if value is not None}
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in given.items()}


def choice_from(given: dict[str, Any]) -> Choice:
    """A choice from the audit log."""
    times: dict[str, Any] = {name: datetime.fromisoformat(given[name]) for name in ("since", "until") if name in given}
    ids = {"ids": tuple(given["ids"])} if "ids" in given else {}
    return Choice(**{**given, **times, **ids})


def choice_words(choice: dict[str, Any]) -> str:
    """A choice from the audit log, for display."""
    said = [f"{name.replace('_', ' ')} {value}" for name, value in choice.items() if name != "ids"]
    if "ids" in choice:
        said.append(counted(len(choice["ids"]), "selected dead letter"))
    return ", ".join(said) or "everything"


@contextmanager
def stoppable() -> Iterator[Clock]:
    """A clock whose stop flag Ctrl-C or SIGTERM sets: work ends after a step. A second one exits immediately."""
    clock = Clock()

    def stop(signum: int, frame: FrameType | None) -> None:
        if clock.stop.is_set():
            raise KeyboardInterrupt
        clock.stop.set()
        warn("stopping after the current step; press Ctrl-C again to exit immediately")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield clock
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress(connection: Redis, keys: Keys, choice: Choice, what: str, *, hide: bool) -> Iterator[Any]:
    """A progress bar over the ledger's dead events for this choice; yields a function that takes finished events."""
    total = dead_events(connection, keys, choice)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=hide) as bar:
        task = bar.add_task(what, total=total)
        yield lambda events: bar.advance(task, events)


def dead_events(connection: Redis, keys: Keys, choice: Choice) -> int:
    """The ledger's number of dead events for the type and reason; for letters selected by id, the events in them."""
    if choice.ids is not None:
        return sum(letter.events for letter in letters_of(connection, keys, choice))
    return sum(
        amount
        for event_type, account in _accounts(connection, keys).items()
        for reason, amount in account.dead.items()
        if choice.event_type in (None, event_type) and choice.reason in (None, reason)
    )


def _accounts(connection: Redis, keys: Keys) -> Mapping[str, Account]:
    return accounts_of(ledger_counts(connection, keys), {})
