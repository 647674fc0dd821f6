"""The filters of the `birdfeed dead` commands, and how a long command is stopped."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from types import FrameType
from typing import Any

from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.query import Choice
from birdfeed_worker.monitoring.ledger import accounts_of
from birdfeed_worker.queue.reply import as_text
from redis import Redis
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from birdfeed_cli.common.console import NOTE, err
from birdfeed_cli.common.time_spans import read_when


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters as they were typed; `everything` says that none is meant to be there."""

    reason: str | None = None
    fingerprint: str | None = None
    event_type: str | None = None
    model: str | None = None
    user: str | None = None
    since: str | None = None
    until: str | None = None
    everything: bool = False

    def choice(self) -> Choice:
        """What they choose.

        Raises:
            ValueError: A time can't be read.
        """
        return Choice(
            reason=self.reason,
            fingerprint=self.fingerprint,
            event_type=self.event_type,
            model=self.model,
            user=self.user,
            since=_when("--since", self.since),
            until=_when("--until", self.until),
        )

    def named(self) -> Choice:
        """The same, for commands that change something: a filter, or --all, must be there.

        Raises:
            ValueError: Neither is, or a time can't be read.
        """
        choice = self.choice()
        if choice.everything and not self.everything:
            raise ValueError("say which dead letters: --reason, --type or another filter, or --all for every one")
        return choice


def _when(name: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return read_when(text).astimezone(UTC)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None


def choice_json(choice: Choice) -> dict[str, Any]:
    """A choice for the log of replays; reads back with choice_from."""
    given = {name: value for name, value in asdict(choice).items() if value is not None}
    return {name: format_time(value) if isinstance(value, datetime) else value for name, value in given.items()}


def choice_from(given: dict[str, Any]) -> Choice:
    """A choice from the log of replays."""
    times: dict[str, Any] = {name: datetime.fromisoformat(given[name]) for name in ("since", "until") if name in given}
    return Choice(**{**given, **times})


def choice_words(choice: dict[str, Any]) -> str:
    """A choice from the log for people."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in choice.items()) or "everything"


@contextmanager
def stoppable() -> Iterator[Clock]:
    """A clock whose stop flag Ctrl-C (or SIGTERM) sets; the work ends between two steps. A second one ends at once."""
    clock = Clock()

    def stop(signum: int, frame: FrameType | None) -> None:
        if clock.stop.is_set():
            raise KeyboardInterrupt
        clock.stop.set()
        err.print("stopping after the step in flight", style=NOTE)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield clock
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress(connection: Redis, keys: Keys, choice: Choice, what: str, *, hide: bool) -> Iterator[Any]:
    """A bar over the dead events the ledger knows for this choice; yields a function that takes events done."""
    total = dead_events(connection, keys, choice)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=hide) as bar:
        task = bar.add_task(what, total=total)
        yield lambda events: bar.advance(task, events)


def dead_events(connection: Redis, keys: Keys, choice: Choice) -> int:
    """Dead events by type and reason, as the ledger has them."""
    counts = {as_text(name): int(amount) for name, amount in connection.hgetall(keys.ledger).items()}
    return sum(
        amount
        for event_type, account in accounts_of(counts, {}).items()
        for reason, amount in account.dead.items()
        if choice.event_type in (None, event_type) and choice.reason in (None, reason)
    )
