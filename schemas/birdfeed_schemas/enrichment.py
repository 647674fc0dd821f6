"""What the worker adds to an event: its normalised usage, its price, its tier."""

from collections import namedtuple
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

import orjson
from msgspec import Struct

from birdfeed_schemas.tables.meters import PROMPT_CLASSES, TOKEN_CLASSES

UsageStatus: TypeAlias = Literal["ok", "inconsistent", "incomplete", "invalid", "missing", "stream_without_usage"]
CostStatus: TypeAlias = Literal["priced", "estimated", "partial", "unpriced", "no_usage", "cache_hit", "reported"]
PriceMatch: TypeAlias = Literal["name", "alias", "original_name", "requested", "none"]
PriceSource: TypeAlias = Literal["operator", "book", "genai-prices", "media", "provider", "event", "none"]
TierSource: TypeAlias = Literal["event", "lookup", "none"]

_PROMPT: Final = len(PROMPT_CLASSES)

if TYPE_CHECKING:

    class _Counts(tuple[int, ...]):
        _fields: tuple[str, ...]

        def __new__(cls, *counts: int, **named: int) -> "_Counts": ...

        def __getattr__(self, name: str) -> int: ...

        def _replace(self, **named: int) -> "Tokens": ...

        def _asdict(self) -> dict[str, int]: ...

else:
    _Counts = namedtuple("_Counts", TOKEN_CLASSES, defaults=(0,) * len(TOKEN_CLASSES))


class Tokens(_Counts):
    """Token counts (0 or more), one for each of TOKEN_CLASSES; the classes are disjoint and sum to the totals.

    A tuple, because one is made for every event, and pricing multiplies it by the rates element by element.
    """

    __slots__ = ()

    @property
    def prompt(self) -> int:
        """All input tokens."""
        return sum(self[:_PROMPT])

    @property
    def completion(self) -> int:
        """All output tokens."""
        return sum(self[_PROMPT:])


NO_TOKENS = Tokens()
NOTHING: Final[Mapping[str, Any]] = {}


class Usage(NamedTuple):
    """Normalised usage of one event.

    Attributes:
        status: How far it could be read. `tokens` is all zeros if it is invalid, missing or stream_without_usage.
        counters: Counts other than tokens, by name (see COUNTERS); only those that are not 0. Seconds may have a
            fraction.
        unaccounted: The part of completion_text that no detail calls text: in an image event it may be images.
        modifiers: service_tier, speed, inference_geo and search_context_size from the usage, in lower case.
        reported: The cost in USD that the provider reports, for providers known to do so.
    """

    status: UsageStatus
    tokens: Tokens = NO_TOKENS
    counters: Mapping[str, int | Decimal] = NOTHING
    unaccounted: int = 0
    modifiers: Mapping[str, str] = NOTHING
    reported: Decimal | None = None


#: Decimal places of a cost in USD; a Price counts in units of the last one.
COST_PLACES: Final = 12
_UNITS: Final = 10**COST_PLACES


def cost_text(units: int) -> str:
    """A cost (in units of its last decimal place) as decimal text with COST_PLACES places."""
    if units < _UNITS:
        return "0." + str(units).zfill(COST_PLACES)
    return f"{units // _UNITS}.{units % _UNITS:012d}"


def cost_number(units: int) -> float:
    """The same cost as the nearest float."""
    return units / _UNITS


class Price(Struct, gc=False):
    """The cost of one event in USD (12 decimal places), and the receipt to recompute it from.

    `units` is the cost in units of its last decimal place. `rates_json` is what the row stores: the JSON text of
    `rates`, or "". It is text because most events of a model are priced by the same rates, whose text is made once.
    `provider` is the event's own, or else the price entry's. `usage` is the usage as it was priced: the event's own,
    except for image tokens that only the price distinguishes from text.
    """

    units: int
    cost_status: CostStatus
    price_match: PriceMatch
    price_model: str | None = None
    price_book: str = ""
    price_source: PriceSource = "none"
    provider: str | None = None
    rates_json: str = ""
    usage: Usage | None = None

    @property
    def cost(self) -> Decimal:
        """The exact cost in USD."""
        return Decimal(self.cost_text)

    @property
    def cost_text(self) -> str:
        """The cost as decimal text with COST_PLACES places."""
        return cost_text(self.units)

    @property
    def cost_number(self) -> float:
        """The cost as the nearest float."""
        return cost_number(self.units)

    @property
    def rates(self) -> Mapping[str, str]:
        """What was priced → the rate used, as exact decimal text.

        The names are token classes and counters (USD per `meters.METERS[...].per` of them), "image", "megapixel",
        "video_second", "audio_second", "character", "page", "reported" for a cost that the handler or the provider
        reported, and "..._multiplier" if a service tier, a speed or a region changed the price.
        """
        rates: dict[str, str] = orjson.loads(self.rates_json) if self.rates_json else {}
        return rates


class Tier(NamedTuple):
    """The tier of the event's user, and where it was found."""

    tier: str
    source: TierSource
