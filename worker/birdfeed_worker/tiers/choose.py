"""Choose the tier of an event's user, from the event and the look-up's answer. Pure."""

from functools import lru_cache
from typing import Final

from birdfeed_schemas.enrichment import Tier, TierSource

ANONYMOUS: Final = Tier(tier="anonymous", source="none")
UNKNOWN: Final = Tier(tier="unknown", source="none")


def choose_tier(event_tier: str | None, user: str | None, lookup_answer: str | None) -> Tier:
    """The tier of an event: its own, else the one that was looked up for its user.

    Args:
        event_tier: The handler's value.
        lookup_answer: The look-up's answer for that user; None if there was none, for any reason.

    Returns:
        "anonymous" without a user, "unknown" for a user without an answer: never a guess.
    """
    if event_tier and (said := event_tier.strip()):
        return _tier(said, "event")
    if not user:
        return ANONYMOUS
    if lookup_answer and (answered := lookup_answer.strip()):
        return _tier(answered, "lookup")
    return UNKNOWN


@lru_cache(maxsize=256)
def _tier(tier: str, source: TierSource) -> Tier:
    """A Tier; cached, because there are few tiers and many events."""
    return Tier(tier=tier, source=source)
