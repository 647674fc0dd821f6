"""Names of models and providers as gateways write them: one table each."""

import pytest
from birdfeed_schemas.tables.providers import FAMILIES, family_of
from birdfeed_worker.pricing.names import candidates, provider_of


@pytest.mark.parametrize(
    ("name", "provider", "found", "named"),
    [
        ("gpt-4o", "", ["gpt-4o"], ""),
        ("GPT-4o", "", ["GPT-4o", "gpt-4o"], ""),
        ("openai/gpt-4o", "", ["openai/gpt-4o", "gpt-4o"], "openai"),
        ("openai:gpt-4o", "", ["openai:gpt-4o", "gpt-4o"], "openai"),
        ("azure/eu/gpt-4o", "", ["azure/eu/gpt-4o", "eu/gpt-4o", "gpt-4o"], "azure"),
        ("models/gemini-2.5-flash", "google", ["models/gemini-2.5-flash", "gemini-2.5-flash"], ""),
        ("gemini/models/gemini-2.5-flash", "", [..., "models/gemini-2.5-flash", "gemini-2.5-flash"], "google"),
        ("publishers/google/models/gemini-2.5-flash", "", [..., "gemini-2.5-flash"], "vertex"),
        (
            "projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4-5@20250929",
            "",
            [..., "claude-sonnet-4-5@20250929", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"],
            "vertex",
        ),
        (
            "bedrock/us-east-1/anthropic.claude-x",
            "",
            [..., "us-east-1/anthropic.claude-x", "anthropic.claude-x"],
            "aws",
        ),
        ("bedrock/converse/us.amazon.nova", "", [..., "converse/us.amazon.nova", "us.amazon.nova"], "aws"),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.a.b-v1:0", "", [..., "us.a.b-v1:0"], "aws"),
        ("arn:aws:bedrock:us-east-1::foundation-model/a.b-v1:0", "aws", [..., "a.b-v1:0"], "aws"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", "", [], ""),
        ("arn:aws:bedrock:us-east-1:1:provisioned-model/abc", "", [], ""),
        ("openrouter/openai/gpt-4o", "", ["openrouter/openai/gpt-4o", "openai/gpt-4o"], "openrouter"),
        ("openai/gpt-4o", "openrouter", ["openai/gpt-4o"], ""),
        ("a/b:free", "openrouter", ["a/b:free", "a/b"], "openrouter"),
        ("ft:gpt-4o:org::id", "", ["ft:gpt-4o:org::id"], ""),
        ("somebody/gpt-4o", "", ["somebody/gpt-4o"], ""),
        ("global.anthropic.claude-x", "aws", ["global.anthropic.claude-x"], ""),
        ("", "", [], ""),
        ("  ", "", [], ""),
    ],
)
def test_candidates(name: str, provider: str, found: list[object], named: str) -> None:
    """The whole name first, then with one part less each time; what only looks like a prefix is kept."""
    made = candidates(name, provider)
    names = [one.name for one in made]

    assert names == [name if one is ... else one for one in found]
    assert {one.provider for one in made if one.name != name} <= {named}


@pytest.mark.parametrize(
    ("spelt", "family"),
    [
        *((spelling, family) for family, spellings in FAMILIES.items() for spelling in (family, *spellings)),
        ("azure.ai.openai", "azure"),
        ("azure_openai", "azure"),
        ("aws.bedrock", "aws"),
        ("gcp.vertex_ai", "vertex"),
        ("google.vertex.chat", "vertex"),
        ("google.generative-ai", "google"),
        ("anthropic.messages", "anthropic"),
        ("OpenAI", "openai"),
        ("openai.responses", "openai"),
        ("x_ai", "xai"),
        ("api.navy", "api-navy"),
        ("unknown", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_families(spelt: str | None, family: str) -> None:
    """In any spelling a provider is of one family; an unknown provider is its own family."""
    assert family == family_of(spelt)


def test_no_spelling_is_of_two_families() -> None:
    """Otherwise the table would depend on its order."""
    every = [spelling for family, spellings in FAMILIES.items() for spelling in (family, *spellings)]

    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("provider", "name", "family"),
    [
        ("openai", "claude-x", "openai"),
        (None, "anthropic/claude-x", "anthropic"),
        (None, "claude-x", "anthropic"),
        (None, "us.anthropic.claude-x", "aws"),
        (None, "gpt-4o", ""),
        (None, None, ""),
    ],
)
def test_the_provider_of_a_usage(provider: str | None, name: str | None, family: str) -> None:
    """The event's own provider, else the name's prefix, else what only one provider's names contain."""
    assert family == provider_of(provider, name)
