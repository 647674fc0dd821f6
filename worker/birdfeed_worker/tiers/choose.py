"""Which tier an event's user has: decided here, from the event and what a lookup answered. Pure."""

from functools import lru_cache
from typing import Final

from birdfeed_schemas.enrichment import Tier, TierSource

ANONYMOUS: Final = Tier(tier="anonymous", source="none")
UNKNOWN: Final = Tier(tier="unknown", source="none")


def choose_tier(event_tier: str | None, user: str | None, lookup_answer: str | None) -> Tier:
    """The tier of an event: its own, else what was looked up for its user, else none is claimed.

    Args:
        event_tier: What the handler said.
        user: The event's user.
        lookup_answer: What a lookup answered for that user; None where it had no answer, for whatever reason.

    Returns:
        Without a user "anonymous", with one but no answer "unknown": never a guess.
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
    """There are few tiers and many events."""
    return Tier(tier=tier, source=source)
