"""Decide what to do after a request to Tinybird. Pure: each answer leads to exactly one decision.

It follows the table of Tinybird's Events API (status, whether anything was written, what to do). Anything that is not
in the table is treated as an unknown outcome, which is the only safe reading.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

#: Statuses after which nothing was written and the same request may work later.
_WAIT: Final = frozenset({429, 503})
#: Statuses that refuse the sender's token; nothing was written.
REFUSED: Final = frozenset({401, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a request that appends rows.

    status is HTTP's, or 0 if there was no answer. `sent` says whether the request may have reached Tinybird, which it
    can't if the connection was refused. successful and quarantined are row counts of a 200 or 202, None if the body
    has none.
    retry_after and reset are seconds from now, from the headers of those names. `detail` is redacted and short.
    """

    status: int
    sent: bool = True
    successful: int | None = None
    quarantined: int | None = None
    retry_after: float | None = None
    reset: float | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """Every row is written."""


@dataclass(frozen=True, slots=True)
class PartlyQuarantined:
    """Every row was taken, and `rows` of them were quarantined."""

    rows: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing was written; the destination takes nothing for `seconds` (None: use the backoff)."""

    seconds: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Nothing was written, and nothing will be until an operator fixes `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class TokenRefused:
    """Nothing was written, because of this worker's token; another worker's may be accepted."""

    reason: str


@dataclass(frozen=True, slots=True)
class Bisect:
    """Nothing was written, because of some row."""

    reason: str


@dataclass(frozen=True, slots=True)
class Halve:
    """Nothing was written; the request was too large."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Some, all or none of the rows may be written."""

    reason: str


Decision: TypeAlias = Done | PartlyQuarantined | Wait | Pause | TokenRefused | Bisect | Halve | Unknown


def decide(answer: Answer, rows: int) -> Decision:
    """What to do after `answer` to a request with `rows` rows."""
    said = f"HTTP {answer.status}" + (f": {answer.detail}" if answer.detail else "")
    if answer.status == 0:
        reason = answer.detail or "no answer"
        return Unknown(reason) if answer.sent else Wait(None, reason)
    if answer.status == 200:
        return _counted(answer, rows, said)
    if answer.status in _WAIT:
        asked = answer.retry_after if answer.retry_after is not None else answer.reset
        return Wait(asked, said)
    if answer.status in REFUSED:
        return TokenRefused(said)
    if answer.status == 404:
        return Pause(said)
    if answer.status == 400:
        return Bisect(said)
    if answer.status == 413:
        return Halve(said)
    return Unknown(said)


def _counted(answer: Answer, rows: int, said: str) -> Decision:
    good, bad = answer.successful, answer.quarantined
    if good is None or bad is None:
        return Unknown(f"{said} without row counts")
    if good == rows and bad == 0:
        return Done()
    # Tinybird doesn't count quarantined rows as successful; a sandbox or proxy may.
    if bad > 0 and good + bad == rows:
        return PartlyQuarantined(bad)
    return Unknown(f"HTTP 200, but of {rows} rows {good} were accepted and {bad} quarantined")
