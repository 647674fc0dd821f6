"""Model names as gateways write them, and their providers. Only this module splits names.

    bedrock/us-east-1/anthropic.claude-sonnet-4-5  →  itself, anthropic.claude-sonnet-4-5; provider aws
    models/gemini-2.5-flash                        →  itself, gemini-2.5-flash
    GPT-4o                                         →  itself, gpt-4o

A name is looked up whole first, then with one part removed at a time. Only parts that name a provider, a region or a
kind of call are removed: `somebody/gpt-4o` may be another model.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

from birdfeed_schemas.tables.providers import GATEWAYS, family_of, is_prefix

#: A region in a path: us-east-1, eu, europe-west4, global.
_REGION: Final = re.compile(
    r"(?:(?:us|eu|ap|af|ca|sa|me|il|mx|cn|us-gov|us-iso)-[a-z]+-\d|[a-z]+-[a-z]+\d|us|eu|apac|au|jp|ca|global|"
    r"global-standard|data-zone|standard)"
)
#: Parts of paths that say how a model is called, not which model it is.
_KINDS: Final = frozenset(("converse", "converse_like", "invoke", "responses", "chat", "deployments", "batch"))
_PATH: Final = re.compile(
    r"^(?:projects/[^/]+/)?(?:locations/[^/]+/)?(?:publishers/(?P<publisher>[a-z0-9-]+)/)?models/(?P<name>.+)$"
)
_ARN: Final = re.compile(
    r"^arn:aws[a-z-]*:bedrock:[a-z0-9-]*:\d*:(?P<kind>inference-profile|foundation-model)/(?P<name>.+)$", re.IGNORECASE
)
#: The prefix of ARNs. Those that match no pattern above name no model: profiles, provisioned throughput, imports.
_ANY_ARN: Final = "arn:"
_DATE: Final = re.compile(r"^(?P<name>.+)@(?P<date>[a-z0-9-]+)$")
#: Suffixes that OpenRouter adds to a model's name.
_VARIANT: Final = re.compile(
    r"^(?P<name>[^:]+/[^:]+):(?P<variant>free|online|nitro|floor|extended|thinking|exacto|beta)$"
)


class Candidate(NamedTuple):
    """A name to look up.

    Attributes:
        name: The name to look up in books.
        provider: The family named by the removed parts, "" if they name none.
        variant: OpenRouter's suffix that was removed, "" if there was none.
    """

    name: str
    provider: str = ""
    variant: str = ""


@lru_cache(8_192)
def candidates(name: str, provider: str = "") -> tuple[Candidate, ...]:
    """The names to look up for a model's name, the whole name first.

    Args:
        provider: The event's provider, in any spelling.

    Returns:
        Names to look up, in order; none if it names no model (a provisioned model's ARN).
    """
    text = name.strip()
    if not text:
        return ()
    found = [Candidate(text, "")]
    family = family_of(provider)
    arn = _ARN.match(text)
    if arn is not None:
        text = arn["name"]
        found.append(Candidate(text, "aws"))
        prefix = "aws"
    elif text.lower().startswith(_ANY_ARN):
        return ()
    else:
        prefix = ""
    for _ in range(8):
        shorter = _shorter(text, family or prefix)
        if shorter is None:
            break
        text, named = shorter
        prefix = prefix or named
        found.append(Candidate(text, prefix))
    variant = _VARIANT.match(text)
    if variant is not None and (family or prefix) in ("", *GATEWAYS):
        found.append(Candidate(variant["name"], prefix or "openrouter", variant["variant"]))
    dated = _DATE.match(text)
    if dated is not None:
        found.append(Candidate(f"{dated['name']}-{dated['date']}", prefix))
        found.append(Candidate(dated["name"], prefix))
    found += [one._replace(name=one.name.lower()) for one in found if one.name != one.name.lower()]
    # The provider in the parts applies to the whole name, too: its price must not be another platform's.
    return tuple(dict.fromkeys(one._replace(provider=one.provider or prefix) for one in found))


def _shorter(text: str, family: str) -> tuple[str, str] | None:
    """A name without its first part, and the provider that the part names; None if no part can be removed."""
    path = _PATH.match(text)
    if path is not None:
        return path["name"], "vertex" if path["publisher"] else ""
    if family not in GATEWAYS:
        for separator in ("/", ":"):
            first, found, rest = text.partition(separator)
            if not found or not rest or "/" in first or ":" in first:
                continue
            if is_prefix(first):
                return rest, family_of(first)
            if separator == "/" and (first.lower() in _KINDS or _REGION.fullmatch(first.lower())):
                return rest, ""
        return None
    first, found, rest = text.partition("/")
    # At a gateway the vendor's prefix belongs to the name; only the gateway's own is removed.
    if found and rest and family_of(first) in GATEWAYS and is_prefix(first):
        return rest, family_of(first)
    return None


@lru_cache(8_192)
def provider_of(provider: str | None, name: str | None) -> str:
    """The provider: the event's, else the prefix of the model's name, else the maker that the name implies."""
    family = family_of(provider)
    if family or not name:
        return family
    prefix = next((one.provider for one in candidates(name) if one.provider), "")
    if prefix:
        return prefix
    lower = name.lower()
    if "anthropic.claude" in lower:
        return "aws"
    return next((family for word, family in _MAKERS if word in lower), "")


#: Words that only one maker's model names have → the maker. They decide how a usage is read, but never its price.
_MAKERS: Final = (("claude", "anthropic"), ("grok", "xai"), ("sonar", "perplexity"))
