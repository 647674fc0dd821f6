"""Properties of any price, tested with Hypothesis."""

from decimal import ROUND_DOWN, Context, Decimal, localcontext
from fractions import Fraction

from birdfeed_schemas.enrichment import Price, Tokens, Usage
from birdfeed_schemas.events import TextGeneration
from birdfeed_schemas.tables.meters import TOKEN_CLASSES
from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.price.price import price_event
from birdfeed_worker.pricing.usage.formats import MAX_TOKENS
from birdfeed_worker.pricing.usage.normalise import normalise_usage
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.pricing.cases import NOW, book
from tests.unit.worker.pricing.usage.test_properties import JSON, usages

# Ten times as many still cost less than the most that an event may cost.
COUNTS = st.integers(0, 100_000)
TOKENS = st.builds(Tokens, *[COUNTS] * len(TOKEN_CLASSES))
RATES = st.lists(st.decimals(0, 100, places=12), min_size=len(TOKEN_CLASSES), max_size=len(TOKEN_CLASSES))


def book_of(rates: list[Decimal]) -> Books:
    price = ", ".join(f"{name} = {rate:f}" for name, rate in zip(TOKEN_CLASSES, rates, strict=True))
    return book(f'[[model]]\nname = "m"\nunit = "token"\nservice_tiers = {{ t = 0.333333 }}\nprice = {{ {price} }}\n')


def price_of(books: Books, tokens: Tokens, tier: str | None = None) -> Price:
    event = TextGeneration(model="m", service_tier=tier)
    return price_event("text_generation", event, Usage(status="ok", tokens=tokens), NOW, books)


EVERY_RATE = book_of([Decimal(number).scaleb(-2) for number in (11, 3, 20, 5, 13, 17, 4000, 250, 40, 8000, 3000, 60)])


@given(RATES, TOKENS, st.sampled_from([None, "t"]))
@settings(deadline=None)
def test_cost_is_the_exact_sum_rounded_once(rates: list[Decimal], tokens: Tokens, tier: str | None) -> None:
    """The sum of tokens times rates in fractions, over a million, rounded half to even at the twelfth place."""
    exact = sum(
        (Fraction(count) * Fraction(rate) for count, rate in zip(tokens, rates, strict=True)), start=Fraction(0)
    )
    exact = exact / 10**6 * (Fraction(333_333, 10**6) if tier else 1)

    assert round(exact * 10**12) == Fraction(price_of(book_of(rates), tokens, tier).cost) * 10**12


@given(TOKENS, TOKENS)
@settings(deadline=None)
def test_cost_is_additive(one: Tokens, other: Tokens) -> None:
    """Two requests cost as much as one with the tokens of both: with these rates nothing is rounded."""
    both = Tokens(*(a + b for a, b in zip(one, other, strict=True)))

    assert price_of(EVERY_RATE, one).cost + price_of(EVERY_RATE, other).cost == price_of(EVERY_RATE, both).cost


@given(TOKENS, st.sampled_from(range(len(TOKEN_CLASSES))), st.integers(0, 2**30))
@settings(deadline=None)
def test_more_tokens_never_cost_less(tokens: Tokens, which: int, more: int) -> None:
    """Cost grows with every class."""
    grown = Tokens(*(count + more if place == which else count for place, count in enumerate(tokens)))

    assert price_of(EVERY_RATE, tokens).cost <= price_of(EVERY_RATE, grown).cost


@given(JSON | usages())
@settings(deadline=None)
def test_any_json_as_usage_has_a_price(raw: object) -> None:
    """Never an exception, never NaN, never negative, always a status."""
    event = TextGeneration(model="m")
    price = price_event("text_generation", event, normalise_usage(raw), NOW, EVERY_RATE)

    assert price.cost.is_finite()
    assert price.cost >= 0
    assert price.cost_status in ("priced", "estimated", "partial", "no_usage", "unpriced")
    assert (price.cost > 0) <= (price.cost_status in ("priced", "estimated", "partial"))


@given(TOKENS)
@settings(deadline=None)
def test_the_callers_decimal_context_changes_nothing(tokens: Tokens) -> None:
    """Neither its precision, nor its rounding, nor its traps."""
    expected = price_of(EVERY_RATE, tokens)
    with localcontext(Context(prec=1, rounding=ROUND_DOWN, Emax=1, Emin=-1)):
        got = price_of(EVERY_RATE, tokens)
        text = format(got.cost, "f")

    assert expected == got
    assert format(expected.cost, "f") == text


def test_the_largest_counts() -> None:
    """Impossibly large counts have no price: one absurd cost would spoil every sum."""
    usage = normalise_usage({"prompt_tokens": MAX_TOKENS, "completion_tokens": MAX_TOKENS})
    price = price_of(EVERY_RATE, usage.tokens)

    assert (Decimal(0), "unpriced", "") == (price.cost, price.cost_status, price.rates_json)
