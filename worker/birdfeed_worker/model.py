"""What can become of an event in one delivery. Every event gets exactly one."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Written:
    """It is in the store.

    `before` says that it was found there, written by an earlier try; `double` that the earlier try belonged to an
    enqueue whose answer the producer never got, so that the event was accepted twice.
    """

    before: bool = False
    double: bool = False


@dataclass(frozen=True, slots=True)
class Dead:
    """It can't be written as it is: `reason` is a short code, `detail` one sentence without event data."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Later:
    """It goes back to wait until `until` (epoch s; 0: to the front of the queue now).

    `posted` (epoch s) is set where it was sent and the outcome is unknown: the store is asked before the next try.
    """

    until: float = 0.0
    posted: float | None = None


Outcome: TypeAlias = Written | Dead | Later
