"""What the worker finds out about an event: its usage, its price, its tier."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

import orjson

UsageStatus: TypeAlias = Literal["ok", "inconsistent", "invalid", "missing"]
CostStatus: TypeAlias = Literal["priced", "estimated", "partial", "unpriced", "no_usage", "cache_hit", "reported"]
PriceMatch: TypeAlias = Literal["name", "alias", "original_name", "requested", "none"]
PriceSource: TypeAlias = Literal["operator", "book", "genai-prices", "event", "none"]
TierSource: TypeAlias = Literal["event", "lookup", "none"]


class Tokens(NamedTuple):
    """Counts of tokens by class: disjoint, and summing to the totals. Whole numbers from 0 on.

    A tuple, because one is made for every event and pricing multiplies it with the rates as it stands.
    """

    prompt_text: int = 0
    prompt_cached: int = 0
    prompt_cache_write: int = 0
    prompt_audio: int = 0
    prompt_image: int = 0
    completion_text: int = 0
    completion_reasoning: int = 0
    completion_audio: int = 0
    completion_image: int = 0

    @property
    def prompt(self) -> int:
        """All tokens that went in."""
        return self.prompt_text + self.prompt_cached + self.prompt_cache_write + self.prompt_audio + self.prompt_image

    @property
    def completion(self) -> int:
        """All tokens that came out."""
        return self.completion_text + self.completion_reasoning + self.completion_audio + self.completion_image


NO_TOKENS = Tokens()


class Usage(NamedTuple):
    """Normalised usage of one event. `tokens` is all zeros unless `status` is ok or inconsistent."""

    status: UsageStatus
    tokens: Tokens = NO_TOKENS


@dataclass(slots=True, kw_only=True)
class Price:
    """The cost of one event in USD (12 places), and the receipt to recompute it from.

    `rates_json` is what the row keeps: the JSON text of `rates`, or nothing. It is text, because most events of a model
    are priced by the same rates, whose text is made once. `provider` is the event's own, else that of the price entry.
    """

    cost: Decimal
    cost_status: CostStatus
    price_match: PriceMatch
    price_model: str | None = None
    price_book: str = ""
    price_source: PriceSource = "none"
    provider: str | None = None
    rates_json: str = ""

    @property
    def rates(self) -> Mapping[str, str]:
        """What was priced, and the rate used, as exact decimal text.

        The names are token classes (USD per 1,000,000 tokens), "image", "megapixel", "video_second", "audio_second",
        "reported" for a handler's own cost, and "service_tier_multiplier" where one applied.
        """
        rates: dict[str, str] = orjson.loads(self.rates_json) if self.rates_json else {}
        return rates


class Tier(NamedTuple):
    """The tier of the event's user, and where it was read."""

    tier: str
    source: TierSource
