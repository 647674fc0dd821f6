"""The choice of an event's tier."""

import pytest
from birdfeed_worker.tiers.choose import choose_tier


@pytest.mark.parametrize(
    ("event_tier", "user", "answer", "tier", "source"),
    [
        ("seed", "u", "flower", "seed", "event"),
        ("seed", None, None, "seed", "event"),
        (" seed ", None, None, "seed", "event"),
        ("a-tier-of-tomorrow", "u", None, "a-tier-of-tomorrow", "event"),
        (None, "u", "flower", "flower", "lookup"),
        ("", "u", "flower", "flower", "lookup"),
        ("  ", "u", "flower", "flower", "lookup"),
        (None, "u", None, "unknown", "none"),
        (None, "u", "", "unknown", "none"),
        (None, "u", " ", "unknown", "none"),
        (None, None, None, "anonymous", "none"),
        (None, "", None, "anonymous", "none"),
        (None, None, "flower", "anonymous", "none"),
    ],
)
def test_order(event_tier: str | None, user: str | None, answer: str | None, tier: str, source: str) -> None:
    """The event's own, the lookup's, then "unknown" for a user and "anonymous" for none."""
    chosen = choose_tier(event_tier, user, answer)

    assert (tier, source) == (chosen.tier, chosen.source)
