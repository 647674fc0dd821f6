"""Providers: families of them with all their spellings, and the prefixes of model names. Data only."""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Final

#: Family → its other spellings. Case, and whether words are joined by "-", "_", "." or a space, make no difference. Of
#: a longer name (`anthropic.messages`, `google.vertex.chat`) the longest known beginning is used.
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "openai": ("openai-chat", "openai-responses", "openai-api", "text-completion-openai", "oai", "chatgpt"),
    "azure": (
        *("azure-openai", "azure-ai-openai", "az-ai-openai", "azure-ai", "azure-ai-inference", "az-ai-inference"),
        *("azure-text", "azure-foundry", "azure-ai-foundry", "azure-cognitive-services", "microsoft"),
    ),
    "aws": (
        *("bedrock", "aws-bedrock", "amazon-bedrock", "bedrock-converse", "bedrock-runtime", "aws-bedrock-runtime"),
        *("amazon", "amazon-web-services", "bedrock-mantle", "sagemaker"),
    ),
    "vertex": (
        *("vertex-ai", "gcp-vertex-ai", "gcp-vertex", "google-vertex", "google-vertexai", "google-vertex-ai"),
        *("vertexai", "vertex-ai-beta", "google-cloud-vertex", "vertex-anthropic"),
    ),
    "google": (
        *("gemini", "google-gla", "google-genai", "google-generative-ai", "google-ai", "google-ai-studio", "googleai"),
        *("gcp-gemini", "gcp-gen-ai", "google-gemini", "generativelanguage", "generative-ai"),
    ),
    "anthropic": ("claude", "anthropic-ai"),
    "xai": ("x-ai", "grok"),
    "mistral": ("mistralai", "mistral-ai"),
    "cohere": ("cohere-chat", "cohere-ai"),
    "deepseek": ("deepseek-ai", "deep-seek"),
    "perplexity": ("perplexity-ai", "pplx"),
    "groq": ("groqcloud",),
    "together": ("together-ai", "togetherai"),
    "fireworks": ("fireworks-ai",),
    "openrouter": ("open-router",),
    "ollama": ("ollama-chat", "ollama-cloud"),
    "moonshotai": ("moonshot", "moonshot-ai", "kimi"),
    "zai": ("z-ai",),
    "zhipuai": ("zhipu", "zhipu-ai", "bigmodel"),
    "cerebras": (),
    "cloudflare": ("workers-ai", "cloudflare-workers-ai"),
    "databricks": (),
    "github-copilot": ("copilot",),
    "minimax": ("minimax-ai",),
    "meta": ("meta-llama", "meta-ai", "llama-api"),
    "novita": ("novita-ai",),
    "voyageai": ("voyage", "voyage-ai"),
    "ovhcloud": ("ovh",),
    "fal": ("fal-ai",),
    "replicate": (),
    "recraft": ("recraft-ai",),
    "blackforestlabs": ("black-forest-labs", "bfl"),
    "stability": ("stability-ai",),
    "ideogram": ("ideogram-ai",),
    "runway": ("runwayml",),
    "elevenlabs": ("eleven-labs",),
    "deepgram": (),
    "assemblyai": ("assembly-ai",),
    "scaleway": ("scaleway-ai",),
    "alibaba": ("dashscope", "qwen-ai-platform", "qwencloud", "alibaba-cloud"),
    "nebius": ("nebius-ai",),
    "deepinfra": ("deep-infra",),
    "vercel": ("vercel-ai-gateway", "ai-gateway", "gateway"),
}
#: Family → the family under which genai-prices lists its models.
PRICED_AS: Final[Mapping[str, str]] = {"vertex": "google"}
#: Family → requested inference region → multiplier of all token prices. Anthropic: 1.1 for `inference_geo: us`
#: (platform.claude.com/docs/en/about-claude/pricing, "data residency"; litellm 1.106.2 has the same), 2026-11.
GEO_MULTIPLIERS: Final[Mapping[str, Mapping[str, Decimal]]] = {"anthropic": {"us": Decimal("1.1")}}
#: Gateways whose model names begin with the vendor's name.
GATEWAYS: Final = frozenset(("openrouter",))
#: Words that programs write for an unknown provider.
NOBODY: Final = frozenset(("", "unknown", "none", "null", "n-a", "custom", "other"))


_SEPARATORS: Final = str.maketrans("_. /:", "-----")


def _plain(name: str) -> str:
    return name.strip().lower().translate(_SEPARATORS)


_FAMILY_OF: Final[Mapping[str, str]] = {
    **{_plain(spelling): family for family, spellings in FAMILIES.items() for spelling in spellings},
    **{family: family for family in FAMILIES},
}


@lru_cache(2_048)
def family_of(provider: str | None) -> str:
    """The family of a provider in any spelling; "" for no provider; an unknown provider's own name."""
    name = _plain(provider or "")
    if name in NOBODY:
        return ""
    parts = name.split("-")
    for length in range(len(parts), 0, -1):
        family = _FAMILY_OF.get("-".join(parts[:length]))
        if family is not None:
            return family
    return name


def is_prefix(part: str) -> bool:
    """Whether a part of a model's name is exactly one of the providers' spellings."""
    return _plain(part) in _FAMILY_OF
