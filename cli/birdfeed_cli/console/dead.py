"""Dead letters in the console, with the same filters, kinds and letters as `birdfeed dead list` and `dead show`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import typer
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.newest import newest
from birdfeed_worker.dead_letters.query import Choice, DeadLetterInfo, find, opened
from birdfeed_worker.monitoring.minutes import DEAD_REASONS
from birdfeed_worker.queue.redis_time import redis_time
from redis import Redis
from starlette.exceptions import HTTPException

from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.common.options import moment
from birdfeed_cli.console.overview import trends
from birdfeed_cli.dead_letters.filters import Filters, choice_words, dead_events
from birdfeed_cli.dead_letters.listing import event_lines, group

#: Letters on a page; and newest letters that are grouped by kind of failure.
LETTERS: Final = 50
GROUPED: Final = 5_000
#: Newest letters that are searched for one kind.
SEARCHED: Final = 20_000
#: Characters of a filter at most.
MOST_TEXT: Final = 1_000
#: Filters by their names in URLs and forms, with their labels.
TEXTS: Final = {"reason": "Reason", "event_type": "Event type", "fingerprint": "Fingerprint", "model": "Model",
                "user": "User", "text": "Text in the error or the data"}  # fmt: skip
TIMES: Final = {"since": "Failed since", "until": "Failed before"}
#: The message for filters that read event data without a sign-in.
NEEDS_SIGN_IN: Final = "filters by model, user and text read events' data: set BIRDFEED_CONSOLE_TOKEN and sign in"


def typed(fields: Mapping[str, str]) -> dict[str, str]:
    """The filters in a URL or a form as they were typed, without empty ones."""
    return {name: value for name in (*TEXTS, *TIMES) if (value := fields.get(name, "").strip()[:MOST_TEXT])}


def choice_of(connection: Redis, keys: Keys, fields: Mapping[str, str], *, signed_in: bool) -> Choice:
    """The dead letters that a URL or a form selects.

    Raises:
        HTTPException: 403: a filter reads event data, and nobody is signed in.
        WrongUse: A filter can't be read, or names something that doesn't exist.
    """
    with explained():
        choice = Filters(given(fields)).choice(connection, keys)
    if choice.by_event and not signed_in:
        raise HTTPException(403, NEEDS_SIGN_IN)
    return choice


def given(fields: Mapping[str, str], letters: Sequence[str] = ()) -> Choice:
    """The choice in the fields, with letters' ids; raises typer.BadParameter for an invalid time."""
    asked: dict[str, Any] = dict(typed(fields))
    asked.update({name: moment(asked[name]) for name in TIMES if name in asked})
    return Choice(**asked, ids=tuple(letters) or None)


@contextmanager
def explained() -> Iterator[None]:
    """Turn typer's errors in the block into WrongUse with one sentence."""
    try:
        yield
    except typer.BadParameter as error:
        raise WrongUse(error.format_message()) from None


def kinds_page(connection: Redis, keys: Keys, fields: Mapping[str, str], *, signed_in: bool) -> dict[str, Any]:
    """Kinds of failure and the newest matching letters; it reads a limited number of letters, with a link to more."""
    now = redis_time(connection)
    choice = choice_of(connection, keys, fields, signed_in=signed_in)
    after, asked = fields.get("after", ""), typed(fields)
    listed = newest(connection, keys, choice, after=after, most=LETTERS)
    # Letters are not opened for the kinds, so with filters by event the page shows only the letters.
    grouped = None if choice.by_event or after else newest(connection, keys, choice, most=GROUPED, look_at=GROUPED)
    kinds = [] if grouped is None else group(grouped.letters)
    return {
        "fields": {name: asked.get(name, "") for name in (*TEXTS, *TIMES)},
        "labels": {**TEXTS, **TIMES},
        "known": {"reason": sorted(DEAD_REASONS), "event_type": sorted(registry())},
        "letters": listed.letters,
        "looked_at": listed.looked_at,
        "next": f"/dead?{urlencode({**asked, 'after': listed.after})}" if listed.after else "",
        "first": not after,
        "everything": choice.everything,
        "query": urlencode(asked),
        "kinds": kinds,
        "trends": {} if grouped is None else trends(kinds, grouped.letters, now),
        "all_grouped": grouped is not None and not grouped.after,
        "grouped": 0 if grouped is None else grouped.looked_at,
        "in_ledger": dead_events(connection, keys, choice),
        "words": choice_words(asked),
    }


def kind_page(connection: Redis, keys: Keys, fingerprint: str, *, signed_in: bool) -> dict[str, Any]:
    """One kind of failure: its newest letter, with one event as an example if the user is signed in.

    Raises:
        HTTPException: 404: none of the newest letters is of that kind.
    """
    now = redis_time(connection)
    found = newest(connection, keys, Choice(fingerprint=fingerprint), most=GROUPED, look_at=SEARCHED)
    if not found.letters:
        where = f"none of the newest {SEARCHED:,} dead letters" if found.after else "no dead letter"
        raise HTTPException(404, f"{where} has the fingerprint {fingerprint}")
    kinds = group(found.letters)
    letter = next(iter(opened(connection, keys, [found.letters[0][0]])), found.letters[0][0])
    return {
        "kind": kinds[0],
        "kinds": kinds,
        "trends": trends(kinds, found.letters, now),
        "more": bool(found.after),
        **example(letter, signed_in=signed_in),
    }


def letter_page(connection: Redis, keys: Keys, letter_id: str, *, signed_in: bool) -> dict[str, Any]:
    """One dead letter, as in `birdfeed dead show`; raises HTTPException (404)."""
    letter = find(connection, keys, letter_id)
    if letter is None:
        raise HTTPException(404, f"no dead letter has the id {letter_id}; it may have been replayed or purged")
    return example(letter, signed_in=signed_in)


def example(letter: DeadLetterInfo, *, signed_in: bool) -> dict[str, Any]:
    """A letter, and its first event's data as lines."""
    lines: Iterable[str] = ()
    if signed_in and letter.batch is not None and letter.batch.lines:
        lines = event_lines(letter.batch.lines[0])
    return {"letter": letter, "lines": list(lines), "readable": letter.batch is not None}
