"""Read dead letters a page at a time, and select among them.

Pages are split at the letters' ids, which are in the order of time, so that letters that are added or removed in the
meantime neither hide others nor show them twice.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from birdfeed_schemas.registry import spellings_of
from birdfeed_schemas.wire.envelope import MAX_COUNT, Batch, WireError, format_time, split_batch
from birdfeed_schemas.wire.keys import BYTES_FIELD, DEAD_FIELD, EVENTS_FIELD, REASON_FIELD, TYPE_FIELD, Keys
from redis import Redis

from birdfeed_worker.chunks import batched
from birdfeed_worker.dead_letters.record import fingerprint
from birdfeed_worker.queue.codec import unpack
from birdfeed_worker.queue.reply import as_name, as_text, data_of, json_object, number
from birdfeed_worker.queue.reserve import MOST_EVENTS

#: Dead letters read in one round trip.
PAGE: Final = 500
#: The reason of a job that rq failed by itself (a stock rq worker took it), until retention counts it.
FAILED_BY_RQ: Final = "failed"

_FIELDS: Final = (TYPE_FIELD, REASON_FIELD, EVENTS_FIELD, BYTES_FIELD, "description", "ended_at", DEAD_FIELD)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterInfo:
    """The fields of a dead letter. Times are UTC, ISO 8601; `size` is in bytes before compression.

    `counted` says whether the ledger counts it as dead. `batch` and `digest` (SHA-1 of the data in Redis) are set once
    it was opened; `batch` is None if it can't be opened.
    """

    id: str
    event_type: str
    reason: str
    detail: str
    fingerprint: str
    events: int
    size: int
    attempts: int
    replays: int
    replay_id: str
    first_failed_at: str
    last_failed_at: str
    counted: bool = True
    batch: Batch | None = None
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A selection of dead letters and events in them: everything that is given must match.

    `fingerprint` may be a prefix. `since` and `until` (UTC) limit when an event last failed. `model` is the model
    requested or used, `user` the user's id or name. `text` is searched, ignoring case, in why the event failed and in
    its data as JSON. `ids` are letters' ids.
    """

    reason: str | None = None
    fingerprint: str | None = None
    event_type: str | None = None
    model: str | None = None
    user: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    ids: tuple[str, ...] | None = None

    @property
    def by_event(self) -> bool:
        """Whether letters must be opened to select among their events."""
        return self.model is not None or self.user is not None or self.text is not None

    @property
    def everything(self) -> bool:
        """Whether no condition is given, so that everything matches."""
        return self == EVERYTHING

    def fits(self, letter: DeadLetterInfo) -> bool:
        """Whether a letter may hold matching events."""
        return (
            (self.ids is None or letter.id in self.ids)
            and (self.reason is None or letter.reason == self.reason)
            and (self.fingerprint is None or letter.fingerprint.startswith(self.fingerprint))
            and (self.event_type is None or letter.event_type == self.event_type)
            and (self.since is None or letter.last_failed_at >= format_time(self.since))
            and (self.until is None or letter.last_failed_at < format_time(self.until))
        )

    def chosen(self, batch: Batch) -> list[int]:
        """The numbers (from 0) of the lines that match; an unreadable line matches no model and no user."""
        if not self.by_event:
            return list(range(len(batch.lines)))
        names = spellings_of(batch.header.event_type) or {}
        wanted = "" if self.text is None else self.text.casefold()
        everywhere = wanted in batch.header.detail.casefold()
        return [
            number
            for number, line in enumerate(batch.lines)
            if (everywhere or wanted in line.decode(errors="replace").casefold()) and self._fits_event(line, names)
        ]

    def _fits_event(self, line: bytes, names: Mapping[str, str]) -> bool:
        if self.model is None and self.user is None:
            return True
        given: dict[str, set[str]] = {}
        for name, value in data_of(line).items():
            given.setdefault(names.get(name, name), set()).add(str(value))
        models = given.get("model", set()) | given.get("model_used", set())
        users = given.get("user", set()) | given.get("username", set())
        return (self.model is None or self.model in models) and (self.user is None or self.user in users)


EVERYTHING: Final = Choice()


def letters_of(connection: Redis, keys: Keys, choice: Choice = EVERYTHING) -> Iterator[DeadLetterInfo]:
    """Dead letters that may match, oldest first, unopened. Those that vanish in the meantime are skipped."""
    for page in _pages_of(connection, keys, choice):
        yield from (letter for letter in read(connection, keys, page) if choice.fits(letter))


def dead_letters_of(connection: Redis, keys: Keys, choice: Choice = EVERYTHING) -> Iterator[DeadLetterInfo]:
    """Dead letters that may match, oldest first, opened."""
    for page in _pages_of(connection, keys, choice):
        fitting = [letter for letter in read(connection, keys, page) if choice.fits(letter)]
        yield from opened(connection, keys, fitting)


def _pages_of(connection: Redis, keys: Keys, choice: Choice) -> Iterator[Sequence[str]]:
    """The ids to examine: the dead ones among `choice.ids`, or all if the choice names no ids."""
    if choice.ids is None:
        yield from pages(connection, keys)
        return
    for some in batched(sorted(choice.ids), PAGE):
        with connection.pipeline(transaction=False) as pipe:
            for job_id in some:
                pipe.zscore(keys.failed, job_id)
            found = pipe.execute()
        yield [job_id for job_id, score in zip(some, found, strict=True) if score is not None]


def pages(connection: Redis, keys: Keys) -> Iterator[Sequence[str]]:
    """The ids of all dead letters, a page at a time."""
    if not in_order(connection, keys):
        # A scan also finds every letter.
        found = connection.zscan_iter(keys.failed, count=PAGE)
        yield from batched((as_text(job_id) for job_id, _ in found), PAGE)
        return
    last = "-"
    while page := connection.zrangebylex(keys.failed, last, "+", 0, PAGE):
        ids = [as_text(job_id) for job_id in page]
        yield ids
        last = f"({ids[-1]}"


def in_order(connection: Redis, keys: Keys) -> bool:
    """Whether ids are in order, as among equal scores; not so where rq failed a job by itself, with an expiry."""
    return bool(connection.zcount(keys.failed, -1, -1) == connection.zcard(keys.failed))


def read(connection: Redis, keys: Keys, ids: Sequence[str]) -> list[DeadLetterInfo]:
    """The fields of these letters, unopened; those that are gone are left out."""
    with connection.pipeline(transaction=False) as pipe:
        for job_id in ids:
            pipe.hmget(keys.job(job_id), _FIELDS)
        found = pipe.execute(raise_on_error=False)
    # A key that is not a hash is not a letter.
    return [
        _info(job_id, values)
        for job_id, values in zip(ids, found, strict=True)
        if isinstance(values, list) and any(values)
    ]


def opened(connection: Redis, keys: Keys, letters: Sequence[DeadLetterInfo]) -> list[DeadLetterInfo]:
    """The same letters with their batches as they are now; those that are gone are left out."""
    with connection.pipeline(transaction=False) as pipe:
        for letter in letters:
            pipe.hget(keys.job(letter.id), "data")
        found = pipe.execute(raise_on_error=False)
    return [_open(letter, data) for letter, data in zip(letters, found, strict=True) if isinstance(data, bytes)]


def find(connection: Redis, keys: Keys, job_id: str) -> DeadLetterInfo | None:
    """One dead letter, opened, by its id; None if it doesn't exist."""
    if connection.zscore(keys.failed, job_id) is None:
        return None
    return next(iter(opened(connection, keys, read(connection, keys, [job_id]))), None)


def _open(letter: DeadLetterInfo, data: bytes) -> DeadLetterInfo:
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    try:
        batch = split_batch(unpack(data))
    except WireError:
        return replace(letter, digest=digest)
    detail = batch.header.detail if batch.header.reason == letter.reason else ""
    return replace(letter, digest=digest, batch=batch, detail=detail or letter.detail, events=len(batch.lines))


def _info(job_id: str, values: Sequence[bytes | None]) -> DeadLetterInfo:
    event_type, reason = as_name(values[0], ""), as_name(values[1], "")
    description, ended_at = (as_text(value or b"") for value in values[4:6])
    known = json_object(values[6])
    detail = description.partition(f", {reason}: ")[2] or description
    failed_at = _known_text(known, "last") or ended_at
    return DeadLetterInfo(
        id=job_id,
        event_type=event_type or "unknown",
        reason=reason or FAILED_BY_RQ,
        detail=detail,
        fingerprint=_known_text(known, "fingerprint") or fingerprint(event_type, reason, detail),
        events=number(values[2], 1, MOST_EVENTS),
        size=number(values[3], 0),
        attempts=_known_count(known, "attempts"),
        replays=_known_count(known, "replays"),
        replay_id=_known_text(known, "replay"),
        first_failed_at=_known_text(known, "first") or failed_at,
        last_failed_at=failed_at,
        counted=bool(reason),
    )


def _known_text(known: Mapping[str, Any], name: str) -> str:
    value = known.get(name)
    return value if isinstance(value, str) else ""


def _known_count(known: Mapping[str, Any], name: str) -> int:
    value = known.get(name)
    return value if type(value) is int and 0 <= value <= MAX_COUNT else 0
