"""Malformed event data, and an event's whole path without Redis: every event is kept or counted.

The values come from a `random.Random`, so that Hypothesis can draw them and a long run can use seeds.
"""

import collections
import dataclasses
import enum
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from random import Random
from typing import Any, Final
from unittest.mock import MagicMock, Mock

import msgspec
from birdfeed import api
from birdfeed.encoding.batch import cut, line_of, pack
from birdfeed.settings import ProducerSettings
from birdfeed.testing import _CapturingClient
from birdfeed_schemas.fields import ANY_TYPE
from birdfeed_schemas.registry import registry
from birdfeed_worker.model import Dead, Item, ReservedJob
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pricing.book.fallback import GenaiPrices
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.tiers.lookup import NoTiers

TYPES: Final = ("text_generation", "image_generation")
ODD_TYPES: Final = ("made_up", "", 5, None, "a\nb", "x" * 101, b"x", ["a"], "\ud800")
TEXTS: Final = (
    "", "a", "x" * 513, "x" * 5_000, "\x00", "\ud800", "\U0001f600", "é\u202e", "\x1b]0;x\x07", "'; DROP TABLE", "\n\r",
    "9" * 20, "9" * 5_000, "-1", "1e400", "nan", "Infinity", "1e-999999999", "1" + "0" * 300, "0x10", "\u0663", "  ",
    "1_000", "2026-01-01", "9999-12-31T23:59:59", "0001-01-01T00:00:00+23:59", "24:00", "success", "error", "true",
    "null", "{}", "a." * 500, "ft:" * 300, "gpt-4o-mini", "flux", "1024x1024", "4294967295x4294967295", "9999999999x1",
    "1x" + "9" * 5_000,
)  # fmt: skip
NUMBERS: Final = (
    0, -1, 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**200, -(2**63) - 1, 10**400, 0.0, -0.0, 1.5, 1e308,
    5e-324, float("nan"), float("inf"), -float("inf"), True, False, Decimal("1E+999999"), Decimal("1E-999999"),
    Decimal("NaN"), Decimal("sNaN"), Decimal("0.1"), 1e15 + 1, 1764115200, 1764115200000, -5e15, 1e30,
)  # fmt: skip
USAGE_KEYS: Final = (
    "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "prompt_tokens_details",
    "completion_tokens_details", "cached_tokens", "audio_tokens", "promptTokenCount", "candidatesTokenCount",
    "promptTokensDetails", "cache_creation", "reasoning_tokens", "cache_read_input_tokens", "thoughtsTokenCount",
    "modality", "tokenCount", "totalTokens",
)  # fmt: skip
NAMES: Final = (*ANY_TYPE, "prompt", "messages", "other")


class Colour(enum.Enum):
    """A type that JSON doesn't have."""

    RED = "red"
    NOTHING = float("nan")


@dataclasses.dataclass
class Data:
    """May refer to itself."""

    inner: object = None


class Refusing:
    """Raises on every access."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise KeyError("x")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def __hash__(self) -> int:
        raise RuntimeError

    def __bool__(self) -> bool:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class Dumping:
    """Its dump contains another object of its class, without end."""

    def model_dump(self) -> dict[str, object]:
        """Like pydantic's."""
        return {"inner": Dumping()}


class Endless(Mapping[str, str]):
    """A mapping with more entries than can be read."""

    def __getitem__(self, key: str) -> str:
        return key

    def __iter__(self) -> Iterator[str]:
        return (str(number) for number in range(30_000))

    def __len__(self) -> int:
        return 10**9


class BrokenText(str):
    """Text whose conversion fails."""

    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError

    def encode(self, *_: Any) -> bytes:
        """Raise."""
        raise RuntimeError


class BrokenDict(dict[str, object]):
    """A dict whose entries can't be read."""

    def items(self) -> Any:
        """Raise."""
        raise RuntimeError

    def keys(self) -> Any:
        """Raise."""
        raise RuntimeError


class BrokenZone(tzinfo):
    """A time zone without an offset."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        """Raise."""
        raise RuntimeError

    dst = utcoffset

    def tzname(self, when: datetime | None) -> str:
        """Raise."""
        raise RuntimeError


class BrokenError(Exception):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError

    @property
    def code(self) -> str:
        """Raise."""
        raise RuntimeError


def leaf(draw: Random) -> Any:
    """A value that is not a container."""
    match draw.randrange(10):
        case 0 | 1 | 2:
            return draw.choice(TEXTS)
        case 3 | 4 | 5:
            return draw.choice(NUMBERS)
        case 6:
            return draw.choice([None, b"\xff\xfe", bytearray(b"a"), memoryview(b"abc"), object(), type, len, os, ...])
        case 7:
            zone = timezone(timedelta(hours=-23))
            return draw.choice(
                [
                    datetime.now(UTC),
                    datetime.min,
                    datetime.max.replace(tzinfo=zone),
                    time(1, 2),
                    timedelta.max,
                    datetime(2026, 1, 1, tzinfo=BrokenZone()),
                    datetime(2026, 1, 1),
                ]
            )
        case 8:
            circle: list[object] = []
            circle.append(circle)
            round_about = Data()
            round_about.inner = round_about
            return draw.choice(
                [
                    *Colour,
                    Data(1),
                    uuid.UUID(int=5),
                    collections.deque([1]),
                    {1: 2}.keys(),
                    range(10**12),
                    {1, 2},
                    circle,
                    round_about,
                    collections.Counter("abc"),
                    iter([1]),
                    MagicMock(),
                    Mock(usage=Mock(prompt_tokens=3)),
                ]
            )
        case _:
            return draw.choice(
                [
                    Refusing(),
                    Dumping(),
                    Endless(),
                    BrokenText("a"),
                    BrokenText("\ud800"),
                    BrokenDict(a=1),
                    BrokenError(),
                    ValueError("x"),
                    ExceptionGroup("g", [ValueError(1)]),
                    RecursionError(),
                    Exception("p" * 10_000),
                ]
            )


def value(draw: Random, depth: int = 0) -> Any:
    """Any value, some of them nested."""
    kind = draw.random()
    if depth > 3 or kind < 0.65:
        return leaf(draw)
    if kind < 0.68:
        nested = leaf(draw)
        for _ in range(draw.choice((20, 40, 255, 1_100))):
            nested = draw.choice(([nested], {"a": nested}))
        return nested
    if kind < 0.85:
        return {key(draw): value(draw, depth + 1) for _ in range(draw.randrange(4))}
    return [value(draw, depth + 1) for _ in range(draw.randrange(4))]


def key(draw: Random) -> Any:
    """A valid or an invalid name."""
    return draw.choice(
        (*USAGE_KEYS, "a", "", "\ud800", "x" * 100, "\x00", 1, 2.5, None, True, (1, 2), b"x", Colour.RED)
    )


def usage(draw: Random) -> dict[str, Any]:
    """A usage with valid and invalid counts."""
    inner = {draw.choice(USAGE_KEYS): draw.choice(NUMBERS), "modality": draw.choice(("TEXT", 5, None))}
    return {
        draw.choice(USAGE_KEYS): draw.choice((draw.choice(NUMBERS), draw.choice(TEXTS), 7, inner, [inner], value(draw)))
        for _ in range(draw.randrange(5))
    }


def event(draw: Random) -> tuple[Any, Any]:
    """Arguments for track_event: a type and data."""
    event_type = draw.choice(TYPES) if draw.random() < 0.97 else draw.choice(ODD_TYPES)
    if draw.random() < 0.03:
        return event_type, draw.choice((value(draw), Endless(), BrokenDict(model="m"), None, "x", [("model", "m")]))
    data: dict[Any, Any] = {}
    if draw.random() < 0.9:
        data["model"] = draw.choice(("gpt-4o-mini", "flux", draw.choice(TEXTS), value(draw)))
    for _ in range(draw.randrange(7)):
        data[draw.choice(NAMES)] = value(draw) if draw.random() < 0.5 else draw.choice((*TEXTS, *NUMBERS))
    if draw.random() < 0.5:
        data["usage"] = usage(draw)
    if draw.random() < 0.05:
        data[key(draw)] = value(draw)
    return event_type, data


class RecordingClient(_CapturingClient):
    """A producer client that keeps what it would have sent."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bytes]] = []
        super().__init__(ProducerSettings(redis_url=None))

    def _keep(self, event: tuple[Any, ...]) -> bool:
        self.lines.append((event[0], line_of(event)))
        return True


def outcomes(events: Iterable[tuple[Any, Any]]) -> collections.Counter[str]:
    """The outcome of each event, by name: `row`, `dead <reason>`, `dropped <reason>`. Raises if one is lost."""
    client = RecordingClient()
    before = api.use_client(client)
    tracked = 0
    try:
        for event_type, data in events:
            api.track_event(event_type, data)
            tracked += 1
    finally:
        api.use_client(before)
    found: collections.Counter[str] = collections.Counter()
    for reason, count in client.counters.dropped().items():
        found[f"dropped {reason}"] += count
    enricher = Enricher(
        BookSource(None, fallback=GenaiPrices()), NoTiers(), extra_fields=frozenset(), keep_traceback=False
    )
    for event_type, lines in cut(client.lines, batch_events=500, batch_bytes=1_000_000):
        for item in _worked(enricher, event_type, lines):
            found[f"dead {item.outcome.reason}" if isinstance(item.outcome, Dead) else "row"] += 1
    assert found.total() == tracked, (tracked, found)
    return found


def _worked(enricher: Enricher, event_type: str, lines: list[bytes]) -> list[Item]:
    """The events of one batch, processed by a worker up to the request."""
    batch = pack(event_type, lines, compression=1)
    job = ReservedJob(
        id=batch.id, execution="e", data=batch.data, event_type=event_type, events=len(lines), size=batch.size,
        attempts=1, first_reserved=0.0,
    )  # fmt: skip
    decoded = decode([job], extra=enricher.extra_fields)
    assert (decoded.unreadable, decoded.newer, len(decoded.items)) == ([], [], len(lines))
    known = registry().get(event_type)
    valid = validate(event_type, decoded.items)
    if known is not None:
        enricher.enrich(known, valid, datetime.now(UTC))
        for item in decoded.items:
            if item.outcome is None:
                msgspec.json.decode(item.row, type=known.row)
    return decoded.items
