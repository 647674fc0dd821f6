"""What may go wrong, and whom it hits, read from JSON; README.md tells what each switch does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, cast

from birdfeed_sandbox.datafiles import parse_path
from birdfeed_sandbox.errors import FaultError
from birdfeed_sandbox.ingest.extract import QuarantineRule

Side = Literal["events", "reads"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """What happens to a request; None: nothing of the kind. All durations are in seconds."""

    outage: bool | None = None
    status: int | None = None
    headers: Mapping[str, str] | None = None
    body: str | None = None
    auth: int | None = None
    retry_after: float | None = None
    rate_limit: float | None = None
    read_quota: int | None = None
    delay_seconds: float | None = None
    answer_delay_seconds: float | None = None
    reset: str | None = None
    reset_mid_answer: bool | None = None
    not_json: bool | None = None
    max_body_bytes: int | None = None
    poison: str | None = None
    quarantine_rows: QuarantineRule | None = None
    partly_written: float | None = None
    short_count: int | None = None
    short_count_writes: str | None = None
    vanish: int | None = None
    commit_then_status: int | None = None
    commit_then_hang: float | None = None
    late_commit_seconds: float | None = None
    late_commit_status: int | None = None

    def on(self) -> dict[str, Any]:
        """The switches that are on, with their values."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name)) is not None}


NO_FAULT: Final = Switches()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Switches, and whom they hit.

    Attributes:
        id: To clear it by.
        given: The JSON it was made from.
        switches: What it does.
        on: The side of the API: events, reads or all.
        datasource: The data source or pipe; None: every one.
        times: Requests it hits before it clears itself; None: until cleared.
        probability: Of hitting a request at all, from 0 to 1.
        seed: Of the random numbers for `probability`.
    """

    id: int
    given: Mapping[str, Any]
    switches: Switches
    on: str
    datasource: str | None
    times: int | None
    probability: float
    seed: int

    def concerns(self, side: Side, name: str | None, body: bytes) -> bool:
        """Whether a request is one it would hit."""
        switches = self.switches
        return (
            self.on in (side, "all")
            and self.datasource in (None, name)
            and (switches.poison is None or switches.poison.encode() in body)
            and (switches.max_body_bytes is None or len(body) > switches.max_body_bytes)
        )


def read_fault(given: Mapping[str, Any], fault_id: int) -> Fault:
    """A fault from JSON.

    Raises:
        FaultError: It has a switch that doesn't exist, or a value that makes no sense.
    """
    known = {**_SWITCHES, **_TARGETS}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise FaultError(f"there is no fault switch {name}; there are {', '.join(sorted(known))}")
        meaning, read = known[name]
        try:
            values[name] = read(value)
        except (TypeError, ValueError, KeyError) as error:
            raise FaultError(f"{name} must be {meaning}, not {value!r}") from error
    switches = Switches(**{name: value for name, value in values.items() if name in _SWITCHES})
    if switches == NO_FAULT:
        raise FaultError(f"a fault needs at least one switch of {', '.join(sorted(_SWITCHES))}")
    for needed, by in _NEEDED.items():
        if needed in values and not any(name in values for name in by):
            raise FaultError(f"{needed} goes with {' or '.join(by)} only")
    default_side = "all" if "outage" in values else "reads" if "read_quota" in values else "events"
    return Fault(
        id=fault_id,
        given=dict(given),
        switches=switches,
        on=values.get("on", default_side),
        datasource=values.get("datasource"),
        times=values.get("times"),
        probability=values.get("probability", 1.0),
        seed=values.get("seed", 0),
    )


def _number(value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ValueError
    return value


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if not isinstance(value, int):
            raise TypeError
        return int(_number(value, low, high))

    return read


def _seconds(value: Any) -> float:
    return float(_number(value, 0, 86_400))


def _positive(value: Any) -> float:
    return float(_number(value, 1e-6, 1e9))


def _share(value: Any) -> float:
    return float(_number(value, 0, 1))


def _one_of(*choices: Any) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        if value not in choices:
            raise ValueError
        return value

    return read


def _true(value: Any) -> bool | None:
    if not isinstance(value, bool):
        raise TypeError
    return value or None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _headers(value: Any) -> Mapping[str, str]:
    return {_text(name): _text(text) for name, text in cast("dict[Any, Any]", value).items()}


def _rule(value: Any) -> QuarantineRule:
    parse_path(_text(value["path"]))
    return QuarantineRule(path=value["path"], equals=value["equals"])


_STATUS = ("a status from 200 to 599", _whole(200, 599))
_DURATION = ("seconds from 0 to 86400", _seconds)
_COUNT = ("a whole number from 0", _whole(0, 10**12))
_FLAG = ("true or false", _true)
_TEXT = ("a text", _text)

#: Each switch: what its value must be, and the function that reads it.
_SWITCHES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "outage": _FLAG,
    "status": _STATUS,
    "headers": ("an object of texts", _headers),
    "body": _TEXT,
    "auth": ("401, 403 or 404", _one_of(401, 403, 404)),
    "retry_after": _DURATION,
    "rate_limit": ("requests per second, above 0", _positive),
    "read_quota": _COUNT,
    "delay_seconds": _DURATION,
    "answer_delay_seconds": _DURATION,
    "reset": ('"before" or "after"', _one_of("before", "after")),
    "reset_mid_answer": _FLAG,
    "not_json": _FLAG,
    "max_body_bytes": _COUNT,
    "poison": _TEXT,
    "quarantine_rows": ('{"path": "$.a", "equals": value}', _rule),
    "partly_written": ("a share from 0 to 1", _share),
    "short_count": _COUNT,
    "short_count_writes": ('"all" or "counted"', _one_of("all", "counted")),
    "vanish": ("200 or 202", _one_of(200, 202)),
    "commit_then_status": _STATUS,
    "commit_then_hang": _DURATION,
    "late_commit_seconds": _DURATION,
    "late_commit_status": _STATUS,
}

_TARGETS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "on": ('"events", "reads" or "all"', _one_of("events", "reads", "all")),
    "datasource": ("a name", _text),
    "times": ("a whole number from 1", _whole(1, 10**9)),
    "probability": ("a share from 0 to 1", _share),
    "seed": ("a whole number", _whole(-(2**63), 2**63)),
}

#: Switches that say more about another one, and make no sense without it.
_NEEDED = {
    "headers": ("status",),
    "body": ("status",),
    "short_count_writes": ("short_count",),
    "late_commit_status": ("late_commit_seconds",),
}

#: Every name that a fault's JSON may have.
FAULT_NAMES: Final = frozenset({*_SWITCHES, *_TARGETS})
