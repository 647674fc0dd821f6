"""Replays that the console runs, in the background and one at a time, with the code of `birdfeed dead replay`."""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.envelope import format_time
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import entries
from birdfeed_worker.operations.replay import Order, Replayed
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.console.dead import TIMES, explained, given, typed
from birdfeed_cli.dead_letters.audit_log import words
from birdfeed_cli.dead_letters.filters import Filters, choice_json, choice_words, dead_events
from birdfeed_cli.dead_letters.replay import NO_WORKER, Wish, canary_of, carry_out, fresh, outcome, refusals, shortfalls

log = logging.getLogger(__name__)

#: Replays that are remembered; the audit log in Redis has all.
REMEMBERED: Final = 20
#: Entries of the audit log that are shown.
LOGGED: Final = 50
#: Seconds that the console waits for a replay's current step when it stops.
STOP_SECONDS: Final = 10.0
#: Details in the audit log that show that an action came from the console.
VIA: Final = {"via": "console"}


@dataclass(slots=True)
class Run:
    """One replay: what was requested, its progress, and its result.

    `total` is the number of dead events that the ledger has for it, `looked_at` the number processed; `again` is the
    URL of the form with the same choice. `notes` and `error` are sentences.
    """

    order: Order
    total: int
    again: str
    result: Replayed = field(default_factory=Replayed)
    looked_at: int = 0
    notes: Sequence[str] = ()
    error: str = ""
    clock: Clock = field(default_factory=Clock)
    thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether it is still running."""
        return self.thread is not None and self.thread.is_alive()

    def progress(self, events: int) -> None:
        """Add processed events."""
        self.looked_at += events


@dataclass(slots=True)
class Runs:
    """The replays of this console; `connection` has the commands' timeout."""

    connection: Redis
    keys: Keys
    _runs: dict[str, Run] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, fields: Mapping[str, str], letters: Sequence[str]) -> Run:
        """Start the replay that a form describes.

        Raises:
            WrongUse: A filter, an assignment or a number is wrong, or another replay still runs.
            RedisError: Redis is away.
        """
        wish = _wish(fields)
        with explained():
            filters = Filters(given(fields, letters), everything=fields.get("of") == "filter")
            order = fresh(self.connection, self.keys, filters, wish)
        clock = Clock()
        canary = canary_of(self.connection, self.keys, wish, clock)
        run = Run(
            order=order,
            total=dead_events(self.connection, self.keys, order.choice),
            again=f"/replays/new?{urlencode(new_query(fields, letters), doseq=True)}",
            notes=[NO_WORKER] if canary is None and wish.canary and not wish.dry_run else [],
            clock=clock,
        )

        def work() -> None:
            try:
                carry_out(self.connection, self.keys, order, canary, clock, run.progress, run.result, **VIA)
            except RedisError as error:
                run.error = f"Redis failed ({type(error).__name__}); events that are back in the queue stay there"
            except Exception:
                log.exception("a replay failed")
                run.error = "the replay failed; the console's log says why"

        with self._lock:
            if any(one.running for one in self._runs.values()):
                raise WrongUse("another replay is still running; stop it, or wait until it ends")
            run.thread = threading.Thread(target=work, name=order.replay_id, daemon=True)
            run.thread.start()
            self._runs[order.replay_id] = run
            while len(self._runs) > REMEMBERED:
                self._runs.pop(next(iter(self._runs)))
        return run

    def find(self, replay_id: str) -> Run | None:
        """The replay with that name."""
        return self._runs.get(replay_id)

    def stop(self, replay_id: str) -> None:
        """Stop it after its current step; it can be continued."""
        run = self.find(replay_id)
        if run is not None:
            run.clock.stop.set()

    def close(self) -> None:
        """Stop all, and wait for their current steps."""
        for run in self._runs.values():
            run.clock.stop.set()
        for run in self._runs.values():
            if run.thread is not None:
                run.thread.join(STOP_SECONDS)

    def listed(self) -> list[Run]:
        """The replays, newest first."""
        return list(reversed(self._runs.values()))


def new_query(fields: Mapping[str, str], letters: Sequence[str]) -> dict[str, Any]:
    """The URL parameters of the form for a choice; time spans such as 24h are turned into times."""
    asked: dict[str, Any] = dict(typed(fields))
    choice = given(fields)
    for name in TIMES:
        if (at := getattr(choice, name)) is not None:
            asked[name] = format_time(at)
    return {**asked, "letter": list(letters), "of": "letters" if letters else "filter"}


def new_page(connection: Redis, keys: Keys, fields: Mapping[str, str], letters: Sequence[str]) -> dict[str, Any]:
    """The form that starts a replay: what is selected, and the options.

    Raises:
        WrongUse: A filter is wrong, or no letter was selected.
    """
    chosen = letters if fields.get("of") == "letters" else ()
    if fields.get("of") == "letters" and not chosen:
        raise WrongUse("no dead letter is selected; go back and select some")
    with explained():
        query = new_query(fields, chosen)
        choice = Filters(given(query, chosen)).choice(connection, keys)
    return {
        "hidden": [
            (name, one) for name, value in query.items() for one in ([value] if isinstance(value, str) else value)
        ],
        "what": choice_words(choice_json(choice)),
        "everything": choice.everything,
        "at_most": dead_events(connection, keys, choice),
        "exact": not choice.by_event and (choice.fingerprint, choice.since, choice.until) == (None, None, None),
        "types": sorted(registry()),
    }


def run_values(run: Run) -> dict[str, Any]:
    """A replay as a template's values."""
    running, result = run.running, run.result  # in this order: what is read of one that has ended is its last word
    return {
        "run": run,
        "running": running,
        "what": choice_words(choice_json(run.order.choice)),
        "share": min(1.0, run.looked_at / run.total) if run.total else 1.0,
        "outcome": outcome(run.order, result),
        "shortfalls": [*shortfalls(result), *refusals(result)],
    }


def log_values(connection: Redis, keys: Keys) -> list[dict[str, Any]]:
    """The newest entries of `birdfeed dead log`."""
    return [
        {"at": f"{one.at:%Y-%m-%d %H:%M:%S}", "who": one.who, "action": one.action, "details": words(one.details)}
        for one in entries(connection, keys, LOGGED)
    ]


def _wish(fields: Mapping[str, str]) -> Wish:
    """The replay's options in a form; raises WrongUse for an invalid number."""
    return Wish(
        dry_run=fields.get("how") != "replay",
        limit=_number(fields, "limit", int),
        rate=_number(fields, "rate", float),
        canary=fields.get("canary") == "yes",
        put=tuple(line.strip() for line in fields.get("set", "").splitlines() if line.strip()),
        unset=tuple(fields.get("unset", "").split()),
        set_type=fields.get("set_type") or None,
    )


def _number(fields: Mapping[str, str], name: str, kind: type[int] | type[float]) -> Any:
    text = fields.get(name, "").strip()
    if not text:
        return None
    try:
        value = kind(text)
    except ValueError:
        raise WrongUse(f"{name}: {text!r} is not a number") from None
    least = 1 if kind is int else 0.1
    if not least <= value <= 1e9:
        raise WrongUse(f"{name} must be from {least:g} to 1,000,000,000")
    return value
