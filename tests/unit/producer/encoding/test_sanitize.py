"""No value from a handler raises or hangs; what JSON can represent is sent."""

import dataclasses
import enum
import sys
import time
from collections import UserDict, deque, namedtuple
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from birdfeed.encoding.batch import line_of
from birdfeed.encoding.encoder import Encoder, Policy
from birdfeed.encoding.sanitize import Bounds, Sanitizer
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
    """Like protobuf's messages."""

    def ListFields(self) -> list[tuple[Any, Any]]:  # noqa: N802 - protobuf's name
        return [(SimpleNamespace(name="prompt_token_count"), 5)]


Point = namedtuple("Point", ["x", "y"])


class Hostile:
    """Raises on every access."""

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
    """Each access returns a new one."""

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


def extra_of(value: Any) -> Any:
    """What is sent for `value` in a field that an operator allowed by name."""
    counters = Counters()
    policy = Policy(extra=frozenset({"extra"}))
    done = Encoder(policy, counters).encode(
        "text_generation", {"model": "m", "extra": value}, policy.shape(SPELLINGS["text_generation"])
    )
    assert done is not None, counters.dropped()
    line = orjson.loads(line_of(done))
    assert line["data"]["model"] == "m"
    return line["data"].get("extra", "(dropped)")


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
        (lambda: Path("/a/b"), None),
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
        (lambda: Usage, None),
        (lambda: sys, None),
        (lambda: open, None),
        (MagicMock, None),
        (lambda: MagicMock(prompt_tokens=5), {"prompt_tokens": 5}),
    ],
)
def test_it_is_sent_as_plain_json(make: Callable[[], Any], arrives: Any) -> None:
    """SDKs' objects by their content, special values as the nearest JSON, others as null; nothing else is changed."""
    assert extra_of(make()) == arrives


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
    """Mocks, endless and hostile objects: the event is sent without what can't be represented."""
    extra_of(make())


def test_a_handlers_stream_is_not_read() -> None:
    """An iterator that is in an event by mistake must not be consumed."""
    stream = iter([1, 2, 3])

    extra_of(stream)
    extra_of({"stream": stream, "bad": "\ud800"})

    assert list(stream) == [1, 2, 3]


class Sub(int):
    """Like pydantic's ByteSize and tomlkit's Integer: `in range(...)` iterates over the whole range for such a type."""

    def __int__(self) -> int:
        raise RuntimeError("no")

    __str__ = __repr__ = __int__  # type: ignore[assignment]


class SubText(str):
    def __str__(self) -> str:
        raise RuntimeError("no")

    def encode(self, *_: Any) -> bytes:
        raise RuntimeError("no")


def nest(make: Callable[[Any], Any], levels: int, inner: Any = 1) -> Any:
    for _ in range(levels):
        inner = make(inner)
    return inner


#: Values of built-in types that would take seconds, or crash the process, if they were written unchanged.
HOSTILE: dict[str, Callable[[], Any]] = {
    "an int subclass": lambda: Sub(2**70),
    "an int subclass beside a lone surrogate": lambda: {"a": Sub(5), "b": "\ud800"},
    "a text subclass": lambda: SubText("x" * 1_000),
    "nested tuples": lambda: nest(lambda inner: (inner,), 20_000),
    "nested lists": lambda: nest(lambda inner: [inner], 20_000),
    "nested dicts": lambda: nest(lambda inner: {"a": inner}, 20_000),
    "shared structures": lambda: nest(lambda inner: [inner, inner], 40),
    "shared dicts": lambda: nest(lambda inner: {"a": inner, "b": inner}, 40),
    "a text of 5 MB": lambda: "x" * 5_000_000,
    "bytes of 5 MB": lambda: b"x" * 5_000_000,
    "a key of 5 MB": lambda: {"x" * 5_000_000: 1},
    "a hundred thousand items": lambda: [1] * 100_000,
    "a hundred thousand keys": lambda: dict.fromkeys(range(100_000)),
    "a hundred thousand text keys": lambda: dict.fromkeys(map(str, range(100_000)), 1),
    "a set of a hundred thousand": lambda: set(range(100_000)),
    "a number of a million bits": lambda: 1 << 1_000_000,
    "a circle": circle,
}


@pytest.mark.parametrize("field", ["model", "usage", "moderation", "error", "start_time", "cost", "extra", "prompt"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_bounded_before_they_are_written(
    name: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any field: at most `items` values are read, and at most some kilobytes are written."""
    looked = 0
    real = Sanitizer.look

    def look(walk: Sanitizer) -> bool:
        nonlocal looked
        looked += 1
        return real(walk)

    monkeypatch.setattr(Sanitizer, "look", look)
    counters = Counters()
    policy = Policy(extra=frozenset({"extra"}), bounds=Bounds(items=500))
    done = Encoder(policy, counters).encode(
        "text_generation", {"model": "m", field: HOSTILE[name]()}, policy.shape(SPELLINGS["text_generation"])
    )

    assert done is not None, counters.dropped()
    assert len(line_of(done)) < 30_000
    assert looked < 3_000  # each level may stop one too late, and there are two tries


def test_what_is_cut_is_counted_and_flagged_on_the_event() -> None:
    """In the event's own count, and in the number of such events."""
    counters = Counters()
    policy = Policy(extra=frozenset({"extra"}), bounds=Bounds(depth=2))
    shape = policy.shape(SPELLINGS["text_generation"])
    encoder = Encoder(policy, counters)
    long = encoder.encode("text_generation", {"model": "m" * 600, "extra": [[[1]], "x" * 513]}, shape)
    short = encoder.encode("text_generation", {"model": "m" * 512, "extra": [[1], "x" * 512]}, shape)

    assert long is not None
    assert short is not None
    line = orjson.loads(line_of(long))
    assert line["truncated"] == 3
    assert line["data"] == {"model": "m" * 512, "extra": [[None], "x" * 512]}
    assert "truncated" not in orjson.loads(line_of(short))
    assert counters.truncated == 1


def test_a_mock_as_usage_is_dropped_and_counted() -> None:
    """It was sent as {}, as if the model had reported no usage."""
    done = Encoder(Policy(), Counters()).encode(
        "text_generation", {"model": "m", "usage": MagicMock()}, Policy().shape(SPELLINGS["text_generation"])
    )

    assert done is not None
    assert orjson.loads(line_of(done))["data"] == {"model": "m"}
    assert done[2] == 1


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
@pytest.mark.parametrize(
    "naive",
    [
        datetime(2026, 7, 1, 12, 0),
        datetime(2026, 1, 1, 12, 0),
        datetime(2026, 11, 1, 1, 30),  # twice in New York
        datetime(2026, 11, 1, 1, 30, fold=1),
    ],
)
def test_a_naive_datetime_is_local_time(zone: str, naive: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Python, in two zones and with a fold; LiteLLM passes such times."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        done = Encoder(Policy(), Counters()).encode(
            "text_generation", {"model": "m", "start_time": naive}, Policy().shape(SPELLINGS["text_generation"])
        )
        assert done is not None
        sent = datetime.fromisoformat(orjson.loads(line_of(done))["data"]["start_time"])
        assert sent.timestamp() == naive.replace(tzinfo=ZoneInfo(zone)).timestamp()
        assert sent.tzinfo is not None
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.heavy
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
    orjson.dumps(Sanitizer(Bounds()).json(value))
    extra_of(value)
