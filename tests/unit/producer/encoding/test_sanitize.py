"""Nothing a handler passes raises or hangs; what JSON can hold arrives."""

import dataclasses
import enum
import sys
from collections import UserDict, deque, namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import orjson
import pytest
from birdfeed.encoding.encoder import Encoder, Policy
from birdfeed.encoding.sanitize import MAX_TEXT, clean, describe
from birdfeed.stats import Counters
from birdfeed_schemas.fields import SPELLINGS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel


class Usage(BaseModel):
    prompt_tokens: int = 5
    details: dict[str, int] = {"cached_tokens": 2}


@dataclasses.dataclass
class Data:
    prompt_tokens: int = 5


class Old:
    def dict(self) -> dict[str, int]:
        return {"prompt_tokens": 5}


class Slotted:
    __slots__ = ("_hidden", "prompt_tokens")

    def __init__(self) -> None:
        self.prompt_tokens = 5
        self._hidden = 1


class Color(enum.Enum):
    RED = "red"


class Message:
    """As protobuf's messages."""

    def ListFields(self) -> list[tuple[Any, Any]]:  # noqa: N802 - protobuf's name
        return [(SimpleNamespace(name="prompt_token_count"), 5)]


Point = namedtuple("Point", ["x", "y"])


class Hostile:
    """Raises wherever it is touched."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


class HostileDump:
    def model_dump(self) -> Any:
        raise RuntimeError("no")

    def __init__(self) -> None:
        self.prompt_tokens = 5


class HostileMapping(UserDict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("no")

    def keys(self) -> Any:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")


class Endless:
    """Each look makes another one."""

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return {"next": Endless()}


class ApiError(Exception):
    def __init__(self) -> None:
        super().__init__("too many requests")
        self.code = "rate_limit"
        self.status_code = 429


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    @property
    def code(self) -> str:
        raise RuntimeError("no")


def circle() -> dict[str, Any]:
    ring: dict[str, Any] = {"a": 1}
    ring["self"] = ring
    return ring


def deep(levels: int) -> list[Any]:
    nest: list[Any] = []
    for _ in range(levels):
        nest = [nest]
    return nest


def usage_of(value: Any) -> Any:
    """What arrives where `value` is passed as usage."""
    counters = Counters()
    encoder = Encoder(Policy(), counters)
    done = encoder.encode(
        "text_generation", {"model": "m", "usage": value}, Policy().names(SPELLINGS["text_generation"])
    )
    assert done is not None, counters.dropped()
    line = orjson.loads(done[1])
    assert line["data"]["model"] == "m"
    return line["data"]["usage"]


@pytest.mark.parametrize(
    ("make", "arrives"),
    [
        (Usage, {"prompt_tokens": 5, "details": {"cached_tokens": 2}}),
        (Data, {"prompt_tokens": 5}),
        (Old, {"prompt_tokens": 5}),
        (Slotted, {"prompt_tokens": 5}),
        (Message, {"prompt_token_count": 5}),
        (lambda: SimpleNamespace(prompt_tokens=5, _secret=1), {"prompt_tokens": 5}),
        (HostileDump, {"prompt_tokens": 5}),
        (lambda: UserDict(prompt_tokens=5), {"prompt_tokens": 5}),
        (lambda: Point(1, 2), {"x": 1, "y": 2}),
        (lambda: {3}, [3]),
        (lambda: frozenset({3}), [3]),
        (lambda: deque([1, 2]), [1, 2]),
        (lambda: (1, 2), [1, 2]),
        (lambda: {"a": 1}.keys(), ["a"]),
        (lambda: b"abc\xff", "abc\ufffd"),
        (lambda: bytearray(b"abc"), "abc"),
        (lambda: memoryview(b"abc"), "abc"),
        (lambda: Decimal("1200"), "1200"),
        (lambda: Decimal("1.2E+3"), "1200"),
        (lambda: Decimal("NaN"), None),
        (lambda: Decimal("1E+999999"), "1E+999999"),
        (lambda: Color.RED, "red"),
        (lambda: datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (lambda: date(2026, 1, 2), "2026-01-02"),
        (lambda: timedelta(seconds=1.5), 1500.0),
        (lambda: UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (lambda: Path("/a/b"), "/a/b"),
        (lambda: float("nan"), None),
        (lambda: float("inf"), None),
        (lambda: 2**70, str(2**70)),
        (lambda: -(2**70), str(-(2**70))),
        (lambda: "a\ud800b", "a\ufffdb"),
        (lambda: "\ud83d\ude00", "\U0001f600"),
        (lambda: {"a\ud800": 1}, {"a\ufffd": 1}),
        (lambda: {1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (lambda: {"ok": 1, "bad": Hostile()}, {"ok": 1, "bad": None}),
        (lambda: HostileMapping(a=1), None),
        (circle, {"a": 1, "self": None}),
        (lambda: Usage, "Usage"),
        (lambda: sys, "sys"),
    ],
)
def test_it_arrives_as_plain_json(make: Callable[[], Any], arrives: Any) -> None:
    """SDKs' objects by their content, oddities by the nearest JSON, hopeless values as null; the rest is unharmed."""
    assert usage_of(make()) == arrives


@pytest.mark.parametrize(
    "make",
    [
        MagicMock,
        Hostile,
        Endless,
        lambda: deep(10_000),
        lambda: 10**5000,
        lambda: (number for number in range(10**9)),
        lambda: iter(range(10**9)),
        lambda: open,
        lambda: {"x": {"y": circle(), "z": Hostile(), "w": 2**80}},
    ],
)
def test_nothing_raises_or_hangs(make: Callable[[], Any]) -> None:
    """Mocks, endless and hostile objects: the event goes out, without what can't be kept."""
    usage_of(make())


def test_a_handlers_stream_is_not_read() -> None:
    """An iterator that gets into an event by mistake must not be used up."""
    stream = iter([1, 2, 3])

    usage_of(stream)
    usage_of({"stream": stream, "bad": "\ud800"})

    assert list(stream) == [1, 2, 3]


def test_shared_structures_do_not_unfold() -> None:
    """Forty levels that hold the level below twice would be a million million values."""
    level: Any = "\ud800"
    for _ in range(40):
        level = [level, level]

    assert len(orjson.dumps(clean(level))) < 1_000_000


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (ValueError("broken"), {"type": "ValueError", "message": "broken"}),
        (ApiError(), {"type": "ApiError", "message": "too many requests", "code": "rate_limit"}),
        (KeyboardInterrupt(), {"type": "KeyboardInterrupt", "message": ""}),
        (MuteError(), {"type": "MuteError", "message": "(its text could not be made: RuntimeError)"}),
    ],
)
def test_exceptions_are_described(error: BaseException, described: dict[str, str]) -> None:
    """Type and message, and the SDK's code where it has one."""
    assert describe(error) == described


def test_an_exceptions_text_is_cut() -> None:
    """It can hold a whole prompt."""
    assert len(describe(ValueError("x" * 100_000))["message"]) == MAX_TEXT


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters())
        | st.binary()
        | st.decimals()
        | st.datetimes()
        | st.sets(st.integers()),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner),
        max_leaves=20,
    )
)
def test_anything_python_holds_becomes_json(value: Any) -> None:
    """Surrogates, huge numbers, sets and bytes included."""
    orjson.dumps(clean(value))
    usage_of(value)
