"""`birdfeed dead replay`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from birdfeed_schemas.registry import registry
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import entries, note
from birdfeed_worker.operations.canary import Canary
from birdfeed_worker.operations.edit import Edit, parse
from birdfeed_worker.operations.replay import Order, Replay, Replayed
from redis import Redis

from birdfeed_cli.common.console import OK, PARTLY, out, print_json, warn
from birdfeed_cli.common.errors import WrongUse, wrong_value
from birdfeed_cli.common.options import unknown_value
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.dead_letters.filters import Filters, choice_from, choice_json, progress, stoppable

NO_WORKER: Final = "no worker is running, so no event is tried first; all go back to the queue and wait there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A replay's options, as they were typed."""

    dry_run: bool = False
    limit: int | None = None
    rate: float | None = None
    canary: bool = True
    canary_wait: float = 30.0
    max_replays: int = 5
    put: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()
    set_type: str | None = None
    resume: str | None = None

    def order(self, **what: Any) -> Order:
        """An order with these options."""
        return Order(limit=self.limit, rate=self.rate, max_replays=self.max_replays, dry_run=self.dry_run, **what)


def run_replay(filters: Filters, wish: Wish, *, as_json: bool) -> int:
    """Put the selected dead events back into the queue. Exit code 1 if some of them could not be."""
    connection, keys = open_redis()
    order = (resumed if wish.resume else fresh)(connection, keys, filters, wish)
    with stoppable() as clock:
        canary = canary_of(connection, keys, wish, clock)
        if canary is None and wish.canary and not wish.dry_run:
            warn(NO_WORKER)
        with progress(connection, keys, order.choice, "replaying", hide=as_json) as done:
            result = carry_out(connection, keys, order, canary, clock, done)
    if as_json:
        print_json({"replay": order.replay_id, "dry_run": order.dry_run, **counts(result)})
    else:
        _show(order, result)
    return PARTLY if _fell_short(result) else OK


def carry_out(
    connection: Redis,
    keys: Keys,
    order: Order,
    canary: Canary | None,
    clock: Clock,
    progress: Callable[[int], None],
    result: Replayed | None = None,
    **details: Any,
) -> Replayed:
    """Replay, and record it in the audit log with these details (not a dry run). `result` counts while it runs."""
    if not order.dry_run:
        note(connection, keys, "replay begins", **describe_order(order), **details)
    replay = Replay(
        connection,
        keys,
        order,
        canary=canary,
        stop=clock.stop.is_set,
        progress=progress,
        clock=clock,
        result=Replayed() if result is None else result,
    )
    done = replay.run()
    if not order.dry_run:
        note(connection, keys, "replay ends", replay=order.replay_id, **counts(done), **details)
    return done


def fresh(connection: Redis, keys: Keys, filters: Filters, wish: Wish) -> Order:
    """A new replay.

    Raises:
        WrongUse: No filter is given.
        typer.BadParameter: A filter, an assignment or the event type is wrong.
    """
    if wish.set_type is not None and wish.set_type not in registry():
        raise wrong_value("--set-type", unknown_value("an event type", wish.set_type, registry()))
    try:
        put = parse(wish.put)
    except ValueError as error:
        raise wrong_value("--set", str(error)) from None
    edit = Edit(put=put, remove=wish.unset, event_type=wish.set_type)
    return wish.order(choice=filters.named(connection, keys), edit=edit)


def resumed(connection: Redis, keys: Keys, filters: Filters, wish: Wish) -> Order:
    """The replay with that name, with its filters and edits.

    Raises:
        WrongUse: No replay has that name, or filters are given as well.
    """
    if filters != Filters():
        raise WrongUse("--resume uses the filters of the stopped replay; leave out the others")
    for entry in entries(connection, keys):
        begun = entry.details
        if entry.action == "replay begins" and begun.get("replay") == wish.resume:
            return wish.order(
                choice=choice_from(begun["choice"]),
                replay_id=begun["replay"],
                started=datetime.fromisoformat(begun["started"]),
                edit=Edit(put=begun["set"], remove=begun["unset"], event_type=begun["type"]),
            )
    raise WrongUse(f"no replay is named {wish.resume!r}; `birdfeed dead log` lists the names")


def describe_order(order: Order) -> dict[str, Any]:
    """A replay for the audit log, with all that is needed to continue it."""
    return {
        "replay": order.replay_id,
        "started": format_time(order.started.astimezone(UTC)),
        "choice": choice_json(order.choice),
        "set": dict(order.edit.put),
        "unset": list(order.edit.remove),
        "type": order.edit.event_type,
        "limit": order.limit,
        "rate": order.rate,
    }


def counts(result: Replayed) -> dict[str, Any]:
    """The result of a replay, for JSON output and the audit log."""
    return {
        "events": result.events,
        "dead_letters": result.letters,
        "vanished": result.vanished,
        "unreadable": result.unreadable,
        "too_often": result.too_often,
        "held_back": result.held_back,
        "refused": dict(result.refused),
        "tried_first": dict(result.canaries),
        "stopped": result.stopped,
    }


def canary_of(connection: Redis, keys: Keys, wish: Wish, clock: Clock) -> Canary | None:
    """A canary, which tries one event of each kind first; None if it isn't wanted, or no worker runs."""
    if not wish.canary or wish.dry_run or not connection.scard(f"{keys.prefix}:workers:{keys.queue}"):
        return None
    return Canary(connection, keys, wish.canary_wait, clock)


def _fell_short(result: Replayed) -> bool:
    return bool(result.unreadable or result.held_back or result.refused or result.too_often or result.stopped)


def _show(order: Order, result: Replayed) -> None:
    out.print(outcome(order, result))
    for sentence in (*shortfalls(result), *refusals(result)):
        out.print(sentence, soft_wrap=True)
    if order.dry_run:
        return
    if result.stopped:
        out.print(f"stopped; continue with: birdfeed dead replay --resume {order.replay_id}", soft_wrap=True)
    elif result.events:
        out.print(f"their rows carry {order.replay_id}")


def outcome(order: Order, result: Replayed) -> str:
    """How many events went back into the queue, or would."""
    what = "would go back" if order.dry_run else f"{'is' if result.events == 1 else 'are'} back in the queue"
    return f"{counted(result.events, 'event')} of {counted(result.letters, 'dead letter')} {what}"


def shortfalls(result: Replayed) -> list[str]:
    """What did not go back, and why, one sentence each."""
    found = (
        (
            result.canaries["died again"],
            "event was tried first and failed again",
            "events were tried first and failed again",
        ),
        (
            result.canaries["no outcome in time"],
            "event was tried first and had no outcome in time",
            "events were tried first and had no outcome in time",
        ),
        (
            result.held_back,
            "event of such a kind stays dead; `birdfeed dead list` shows why",
            "events of such kinds stay dead; `birdfeed dead list` shows why",
        ),
        (
            result.too_often,
            "event was replayed too often and stays dead (--max-replays)",
            "events were replayed too often and stay dead (--max-replays)",
        ),
        (result.vanished, "dead letter was already gone", "dead letters were already gone"),
        (
            result.unreadable,
            "dead letter can't be opened and stays where it is",
            "dead letters can't be opened and stay where they are",
        ),
    )
    return [counted(amount, one, many) for amount, one, many in found if amount]


def refusals(result: Replayed) -> list[str]:
    """What the worker would refuse, and why, one sentence each; the most frequent first."""
    return [
        f"{counted(amount, 'event')} would be refused by the worker and stay dead: {why}"
        for why, amount in result.refused.most_common(10)
    ]
