"""Words that change a price: service tier, speed, region, search context. The event's own win over its usage's."""

from collections.abc import Mapping

from birdfeed_schemas.enrichment import Usage
from birdfeed_schemas.tables.meters import PLAIN_MODIFIERS, SAME_MODIFIER


def plain_modifier(word: str) -> str:
    """A modifier in the words of price books; "" if it means no modifier."""
    text = word.strip().lower().replace("-", "_").replace(" ", "_")
    text = SAME_MODIFIER.get(text, text)
    return "" if text in PLAIN_MODIFIERS else text


def modifiers_of(service_tier: str | None, usage: Usage) -> Mapping[str, str]:
    """The modifiers of an event's price: its own service tier, else its usage's; without words that mean none."""
    own = plain_modifier(service_tier) if service_tier else ""
    if not own:
        return usage.modifiers
    return {**usage.modifiers, "service_tier": own} if usage.modifiers else {"service_tier": own}
