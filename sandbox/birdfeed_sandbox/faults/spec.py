"""Faults and which requests they affect, read from JSON; README.md explains each switch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from birdfeed_schemas.safety.validation import sentences
from pydantic import BaseModel, Field, ValidationError, model_validator

from birdfeed_sandbox.errors import FaultError
from birdfeed_sandbox.ingest.extract import QuarantineRule

Side = Literal["events", "reads"]
Status = Annotated[int, Field(ge=200, le=599)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
OddAnswer = Literal["charset", "bomb", "drip", "shape", "redirect"]


class Switches(BaseModel, frozen=True, strict=True, extra="forbid"):
    """What happens to a request; None means that the switch is off. All durations are in seconds."""

    outage: bool | None = None
    status: Status | None = None
    headers: Mapping[str, str] | None = None
    body: str | None = None
    auth: Literal[401, 403, 404] | None = None
    retry_after: Seconds | None = None
    rate_limit: Annotated[float, Field(ge=1e-6, le=1e9)] | None = None
    read_quota: Count | None = None
    delay_seconds: Seconds | None = None
    answer_delay_seconds: Seconds | None = None
    reset: Literal["before", "after"] | None = None
    reset_mid_answer: bool | None = None
    not_json: bool | None = None
    odd_answer: OddAnswer | None = None
    max_body_bytes: Count | None = None
    poison: str | None = None
    quarantine_rows: QuarantineRule | None = None
    partly_written: Share | None = None
    short_count: Count | None = None
    short_count_writes: Literal["all", "counted"] | None = None
    vanish: Literal[200, 202] | None = None
    commit_then_status: Status | None = None
    commit_then_hang: Seconds | None = None
    late_commit_seconds: Seconds | None = None
    late_commit_status: Status | None = None

    def active(self) -> dict[str, Any]:
        """The switches that are on, with their values."""
        given = ((name, getattr(self, name)) for name in Switches.model_fields)
        return {name: value for name, value in given if value is not None and value is not False}


#: Switch → the switch without which it makes no sense.
_NEEDED: Final = {
    "headers": "status",
    "body": "status",
    "short_count_writes": "short_count",
    "late_commit_status": "late_commit_seconds",
}


class Fault(Switches):
    """Switches, and the requests that they affect.

    Attributes:
        on: The side of the API: events, reads or all; None: as fits the switch.
        datasource: The data source or pipe; None: all.
        times: How many requests it affects before it clears itself; None: until it is cleared.
        probability: The probability that a request is affected, from 0 to 1.
        seed: The seed of the random numbers for `probability`.
    """

    on: Literal["events", "reads", "all"] | None = None
    datasource: str | None = None
    times: Annotated[int, Field(ge=1)] | None = None
    probability: Share = 1.0
    seed: int = 0

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        switches = self.active()
        if not switches:
            raise ValueError(f"a fault needs at least one switch of {', '.join(sorted(Switches.model_fields))}")
        for name, other in _NEEDED.items():
            if name in switches and other not in switches:
                raise ValueError(f"{name} goes with {other} only")
        return self

    def concerns(self, side: Side, name: str | None, body: bytes) -> bool:
        """Whether it would affect a request."""
        default_side = "all" if self.outage else "reads" if self.read_quota is not None else "events"
        return (
            (self.on or default_side) in (side, "all")
            and self.datasource in (None, name)
            and (self.poison is None or self.poison.encode() in body)
            and (self.max_body_bytes is None or len(body) > self.max_body_bytes)
        )


def read_fault(given: Mapping[str, Any]) -> Fault:
    """A fault from JSON.

    Raises:
        FaultError: It has a switch that doesn't exist, or a value that makes no sense.
    """
    unknown = [name for name in given if name not in Fault.model_fields]
    if unknown:
        raise FaultError(f"there is no fault switch {unknown[0]}; there are {', '.join(sorted(Fault.model_fields))}")
    try:
        return Fault.model_validate(given)
    except ValidationError as error:
        raise FaultError(sentences(error)) from error
