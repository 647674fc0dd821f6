"""Known mistakes in pricing, each made once in production somewhere: none is repeated here."""

import re
from collections.abc import Collection, Iterator

from birdfeed_worker.tiers.choose import choose_tier
from birdfeed_worker.tiers.lookup import CachedTiers

from tests.support.pricing.cases import book, image, nonzero, text, usd


def test_cached_tokens_are_not_paid_twice() -> None:
    """Cached tokens are already in the prompt tokens."""
    priced = text(
        model="openai",
        usage={"prompt_tokens": 1000, "prompt_tokens_details": {"cached_tokens": 400}, "cached_tokens": 400},
    )

    assert nonzero(priced.usage) == {"prompt_text": 600, "prompt_cached": 400}
    assert usd("0.000072") == priced.price.cost


def test_rates_are_divided_by_a_million_once() -> None:
    """10,000 + 5,000 tokens at 0.1 and 0.4 per million are $0.003, not $0.000000003."""
    assert usd("0.003") == text(model="openai", usage={"prompt_tokens": 10_000, "completion_tokens": 5_000}).price.cost


def test_an_image_is_not_counted_as_a_token() -> None:
    """A model priced by tokens is paid for 1,290 of them, and for none if it reported none; never for "1 image"."""
    usage = {"completion_tokens": 1290, "completion_tokens_details": {"image_tokens": 1290}}

    assert usd("0.0387") == image(model="nanobanana", num_images=1, usage=usage).price.cost
    assert image(model="nanobanana", num_images=1).price.cost_status == "no_usage"


def test_a_token_is_not_counted_as_an_image() -> None:
    """A model priced per image is paid per image, with any reported tokens."""
    usage = {"prompt_tokens": 5000, "completion_tokens": 4000}

    assert usd("0.002") == image(model="flux", usage=usage).price.cost


def test_an_unknown_cost_is_never_a_plain_number() -> None:
    """What can't be computed is 0 with a status that says so: never NaN, null, or a 0 without a status."""
    for usage in ({"prompt_tokens": float("nan")}, {"prompt_tokens": "NaN"}, {"prompt_tokens": float("inf")}):
        price = text(model="openai", usage=usage).price

        assert (usd("0"), "unpriced") == (price.cost, price.cost_status)
        assert re.fullmatch(r"\d+\.\d{12}", format(price.cost, "f"))


def test_an_unknown_model_takes_no_other_models_price() -> None:
    """Not that of a name with the same beginning, of another spelling, or a default."""
    for name in ("gpt-4.1-nano-2025", "gpt-4.1-n", "openai-larger", "gpt-4", ""):
        price = text(model="mystery", model_used=name, usage={"prompt_tokens": 1000}).price

        assert (usd("0"), "unpriced", "none", None) == (
            price.cost,
            price.cost_status,
            price.price_match,
            price.price_model,
        )


def test_a_missing_rate_loses_no_event() -> None:
    """A class without a rate is left out, and the row is written."""
    usage = {"prompt_tokens": 1000, "prompt_tokens_details": {"audio_tokens": 1000}}
    price = text(
        book('[[model]]\nname = "m"\nunit = "token"\nprice = { completion_text = 1 }\n'), model="m", usage=usage
    )

    assert (usd("0"), "partial") == (price.price.cost, price.price.cost_status)


def test_error_events_need_no_price() -> None:
    """An error of an unknown model has the status for a missing price, like every other row."""
    price = text(model="mystery", status="error", error={"type": "cancelled"}).price

    assert (usd("0"), "no_usage") == (price.cost, price.cost_status)


def test_the_usage_of_an_error_is_paid() -> None:
    """An error event with usage costs what it used."""
    price = text(model="openai", status="error", usage={"prompt_tokens": 10}).price

    assert (usd("0.000001"), "priced") == (price.cost, price.cost_status)


def test_counts_pass_16_and_32_bits() -> None:
    """70,000 and 2**32 tokens keep their value."""
    usage = {"prompt_tokens": 2**32, "completion_tokens": 70_000}

    assert nonzero(text(model="openai", usage=usage).usage) == {"prompt_text": 2**32, "completion_text": 70_000}


def test_an_auth_outage_is_not_remembered_as_a_tier() -> None:
    """A user without an answer is "unknown", never "anonymous"; and asked about again once the service is back."""
    now = [0.0]
    down = [True]

    class Auth:
        def answers(self, users: Collection[str]) -> Iterator[tuple[str, str | None]]:
            if down[0]:
                raise ConnectionError
            return ((user, "seed") for user in users)

    tiers = CachedTiers(Auth(), failure_pause=1.0, clock=lambda: now[0])
    before = choose_tier(None, "u", tiers.look_up({"u"}).get("u"))
    down[0] = False
    now[0] = 1.0
    after = choose_tier(None, "u", tiers.look_up({"u"}).get("u"))
    tiers.close()

    assert (before.tier, before.source, after.tier, after.source) == ("unknown", "none", "seed", "lookup")
