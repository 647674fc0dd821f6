"""The price book: what each model costs, and since when. It is a TOML file; birdfeed ships data/prices.toml.

    [[model]]
    name = "openai-large"                       # what handlers call it
    aliases = ["gpt-4.1"]
    original_name = "gpt-4.1-2025-04-14"        # what its provider calls it
    provider = "azure-openai"
    unit = "token"                              # or "image", "megapixel", "second"
    price = { prompt_text = 2, prompt_cached = 0.5, completion_text = 8 }

Every amount is in USD: per 1,000,000 tokens, per image, per megapixel, per second. Read the TOML with
`parse_float=Decimal`, so that 0.1 is exact. Rules across models (such as a name used twice) are checked when a book is
loaded.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr, create_model, model_validator

from birdfeed_schemas.tables.meters import COUNTERS, TOKEN_CLASSES

Unit: TypeAlias = Literal["token", "image", "megapixel", "second", "character", "page"]

#: Unit of a model → the names of its rates.
RATES_OF: Final[Mapping[Unit, tuple[str, ...]]] = {
    # Counters (web searches, requests) are billed in addition to tokens.
    "token": (*TOKEN_CLASSES, *COUNTERS),
    "image": ("image",),
    "megapixel": ("megapixel",),
    "second": ("video_second", "audio_second"),
    "character": ("character",),
    "page": ("page",),
}
RATE_NAMES: Final = tuple(name for names in RATES_OF.values() for name in names)

#: Decimal places that a rate may have, and the largest rate in USD: a larger one is taken for a typing error.
RATE_PLACES: Final = 12
MAX_RATE: Final = Decimal(100_000)
#: The same for a service tier's multiplier.
MULTIPLIER_PLACES: Final = 6
MAX_MULTIPLIER: Final = Decimal(100)


def _decimal(value: object, what: str, places: int, largest: Decimal) -> Decimal:
    """A Decimal from a TOML number (int or Decimal) or quoted number.

    Raises:
        ValueError: It is not a number, is negative or too large, or has more than `places` decimal places.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError(f"{what} must be a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{what} must be a number, not {value!r}") from None
    if not number.is_finite() or number < 0:
        raise ValueError(f"{what} must be 0 or more, not {value}")
    if number > largest:
        raise ValueError(f"{what} of more than {largest:,} must be a mistake: {value}")
    _, digits, exponent = number.as_tuple()
    trailing_zeros = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    if number and isinstance(exponent, int) and exponent + trailing_zeros < -places:
        raise ValueError(f"{what} must have at most {places} decimal places")
    return number


_rate: Final = partial(_decimal, what="a rate in USD", places=RATE_PLACES, largest=MAX_RATE)
_multiplier: Final = partial(_decimal, what="a multiplier", places=MULTIPLIER_PLACES, largest=MAX_MULTIPLIER)


def _moment(value: object) -> datetime:
    """The time of a TOML date (its start, UTC) or date-time (UTC if it has no offset)."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time.min, UTC)
    raise ValueError("a date must be written without quotes: 2026-01-31")


def _lower_case(value: object) -> object:
    if isinstance(value, str) and (value != value.lower().strip() or not value):
        raise ValueError("a service tier must be in lower case")
    return value


Rate: TypeAlias = Annotated[Decimal, BeforeValidator(_rate)]
Multiplier: TypeAlias = Annotated[Decimal, BeforeValidator(_multiplier)]
Moment: TypeAlias = Annotated[datetime, BeforeValidator(_moment)]
Name: TypeAlias = Annotated[StrictStr, Field(min_length=1)]
ServiceTiers: TypeAlias = dict[Annotated[StrictStr, BeforeValidator(_lower_case)], Multiplier]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


if TYPE_CHECKING:

    class _AnyRates(_Strict):
        def __getattr__(self, name: str) -> Decimal | None: ...

else:
    _AnyRates = create_model("_AnyRates", __base__=_Strict, **dict.fromkeys(RATE_NAMES, (Rate | None, None)))


class Rates(_AnyRates):
    """USD per 1,000,000 tokens of a class, per `per` of a counter (see meters.METERS), per image, megapixel, second,
    character or page; a rate that is left out is unknown."""

    @property
    def given(self) -> dict[str, Decimal]:
        """The rates that are known, by name."""
        values = ((name, getattr(self, name)) for name in RATE_NAMES)
        return {name: rate for name, rate in values if rate is not None}

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.given:
            raise ValueError(f"no rate is given; the rates are {', '.join(RATE_NAMES)}")
        return self


class When(_Strict):
    """When a variant applies: every condition that is given must hold.

    size is "WxH"; resolution is "720p" (the shorter side) or "2k" (the longer side in units of 1,024 pixels), from the
    event's quality or its size; has_input_image counts as false if it is not reported.
    """

    quality: StrictStr | None = None
    size: Annotated[StrictStr, Field(pattern=r"^\d+[xX]\d+$")] | None = None
    resolution: Annotated[StrictStr, Field(pattern=r"^(\d+p|\d+(\.\d+)?k)$")] | None = None
    has_input_image: StrictBool | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("a variant needs a condition: quality, size, resolution or has_input_image")
        return self


class Variant(Rates):
    """Rates that replace the price's own if `when` applies; the first variant that applies is used."""

    when: When


class DatedPrice(Rates):
    """What a model costs from one time (inclusive) until another (exclusive), UTC; unlimited where not given."""

    model_config = ConfigDict(populate_by_name=True)

    since: Moment | None = Field(None, alias="from")
    until: Moment | None = None
    variants: tuple[Variant, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError("`from` must be before `until`")
        return self


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, Mapping) else value


class ModelPrices(_Strict):
    """One model: its names, its unit and its prices. `price` is one table, or several with dates.

    With `own_provider_only`, it does not price events of other providers; this always holds in the shipped book.
    `source` and `as_of` say where and when the price was looked up.
    """

    name: Name
    aliases: tuple[Name, ...] = ()
    original_name: Name | None = None
    provider: Name | None = None
    own_provider_only: StrictBool = False
    source: Name | None = None
    as_of: date | None = None
    unit: Unit
    service_tiers: ServiceTiers = Field(default_factory=dict)
    price: Annotated[tuple[DatedPrice, ...], BeforeValidator(_one_or_more), Field(min_length=1)]


class PriceFile(_Strict):
    """A whole price book. Its service_tiers apply to every model that doesn't name the tier itself."""

    service_tiers: ServiceTiers = Field(default_factory=dict)
    model: tuple[ModelPrices, ...] = ()
