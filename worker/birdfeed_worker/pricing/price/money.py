"""Exact money: USD with 12 decimal places, rounded half to even, independent of the caller's decimal context."""

from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from birdfeed_schemas.enrichment import COST_PLACES

#: Decimal places of a cost; the column is Decimal(38, 12).
PLACES: Final = COST_PLACES
#: The most that one event may cost in USD, so that one absurd count doesn't ruin a sum.
MOST: Final = Decimal(1_000_000)

#: Precise enough that no product or sum of counts, rates, multipliers and seconds (a float has at most 767 significant
#: digits) is ever rounded. No traps: what could trap is checked before.
EXACT: Final = Context(prec=1_200, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX, clamp=0, traps=[])
_LAST_PLACE: Final = Decimal((0, (1,), -PLACES))
ZERO: Final = Decimal((0, (0,), -PLACES))


def half_even(numerator: int, denominator: int) -> int:
    """numerator / denominator, rounded half to even to an integer; for numerators >= 0 and denominators > 0."""
    whole, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and whole & 1):
        return whole + 1
    return whole


def from_last_places(units: int) -> Decimal:
    """A cost in USD from units of its last decimal place."""
    return Decimal(units).scaleb(-PLACES, EXACT)


def to_units(amount: Decimal) -> int:
    """An exact amount in USD, rounded to units of a cost's last decimal place."""
    return int(amount.quantize(_LAST_PLACE, ROUND_HALF_EVEN, EXACT).scaleb(PLACES, EXACT))


def to_cost(amount: Decimal) -> Decimal:
    """An exact amount in USD, rounded to a cost."""
    return amount.quantize(_LAST_PLACE, ROUND_HALF_EVEN, EXACT)


def as_stored(number: Decimal | int) -> Decimal:
    """A fraction as the row stores it, as a float, so that recomputing gives the same cost to the last digit."""
    return Decimal(repr(float(number)))


def plain(number: Decimal) -> str:
    """A number as text without exponent and trailing zeros: "0.000045", "2", "0"."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
