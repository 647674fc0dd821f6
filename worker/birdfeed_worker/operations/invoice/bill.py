"""A provider's bill: cost, tokens and requests by day (UTC) and model; and functions that read a bill's values."""

import re
from dataclasses import dataclass
from datetime import UTC, date
from decimal import Decimal, InvalidOperation
from typing import Final

from birdfeed_schemas.events import read_time

from birdfeed_worker.errors import BirdfeedError
from birdfeed_worker.pricing.price.money import EXACT

#: The years that a bill can cover.
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2200
_ISO_DAY: Final = re.compile(r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})$")


class BillError(BirdfeedError):
    """A file can't be read as a bill; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Billed:
    """What was billed for a model on a day.

    Attributes:
        day: UTC.
        model: The bill's name for it, "" if it has none.
        cost: USD; None if the bill has no costs.
        prompt, completion: Tokens, with cached tokens in the prompt; None if the bill doesn't count them.
        tokens: Both together, if the bill doesn't separate them.
        requests: None if the bill doesn't count them.
    """

    day: date
    model: str
    cost: Decimal | None = None
    prompt: int | None = None
    completion: int | None = None
    tokens: int | None = None
    requests: int | None = None

    @property
    def all_tokens(self) -> int | None:
        """Input and output tokens, None if the bill doesn't count them."""
        return _sum(self.tokens, _sum(self.prompt, self.completion))

    def __add__(self, other: "Billed") -> "Billed":
        return Billed(
            day=self.day,
            model=self.model,
            cost=other.cost if self.cost is None else self.cost if other.cost is None else _plus(self.cost, other.cost),
            prompt=_sum(self.prompt, other.prompt),
            completion=_sum(self.completion, other.completion),
            tokens=_sum(self.tokens, other.tokens),
            requests=_sum(self.requests, other.requests),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A bill: its lines, one for each day and model, in order; its provider ("" if the file doesn't say); and how many
    of the file's lines have nothing that can be compared."""

    lines: tuple[Billed, ...]
    provider: str
    passed_over: int

    @property
    def has_costs(self) -> bool:
        """Whether it has costs, not only tokens and requests."""
        return any(line.cost is not None for line in self.lines)


def model_of(value: object) -> str:
    """The model of a line item: for "gpt-4o-2024-08-06, cached input" it is gpt-4o-2024-08-06."""
    return text_of(value).partition(", ")[0].strip()


def text_of(value: object) -> str:
    """Text without surrounding spaces; "" for anything else."""
    return value.strip() if isinstance(value, str) else ""


def day_of(value: object, where: str) -> date:
    """A day (UTC), from a date, an ISO time or epoch seconds; raises BillError."""
    parts = _ISO_DAY.match(value) if isinstance(value, str) else None
    try:
        if parts is not None:
            day: date | None = date(int(parts[1]), int(parts[2]), int(parts[3]))
        else:
            when = read_time(value)
            day = None if when is None else when.astimezone(UTC).date()
    except ValueError:
        day = None
    if day is None or not _FIRST_YEAR <= day.year < _LAST_YEAR:
        raise BillError(f"{where}: {value!r:.80} is not a day")
    return day


def money_of(value: object, where: str) -> Decimal | None:
    """An amount, negative for a credit; None if there is none; raises BillError."""
    if value is None or value == "":
        return None
    try:
        amount = None if isinstance(value, bool) else Decimal(str(value).replace(",", "").lstrip("$"))
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or abs(amount) >= Decimal(10) ** 15:
        raise BillError(f"{where}: {value!r:.80} is not an amount of money")
    return amount


def count_of(value: object, where: str) -> int | None:
    """A count of 0 or more; None if there is none; raises BillError."""
    amount = money_of(value, where)
    if amount is None:
        return None
    if amount < 0 or amount != int(amount):
        raise BillError(f"{where}: {value!r:.80} is not a count")
    return int(amount)


def check_currency(value: object) -> None:
    """Raise BillError for a currency other than US dollars."""
    if value and text_of(value).lower() not in ("usd", "$"):
        raise BillError(f"the bill is in {value!r:.80}: only US dollars can be compared")


def _sum(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else one + other


def _plus(one: Decimal, other: Decimal) -> Decimal:
    return EXACT.add(one, other)
