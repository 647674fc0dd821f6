"""The rules of usage, one table each: what a count is, which spelling is used, which counts include others."""

from typing import Any

import pytest
from birdfeed_worker.pricing.usage.normalise import normalise_usage

from tests.support.pricing.cases import counted
from tests.support.pricing.usages import MAX, TABLE


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (10, 10),
        ("10", 10),
        (" 10 ", 10),
        ("007", 7),
        ("0" * 5000 + "7", 7),
        (10.0, 10),
        (-0.0, 0),
        (0, 0),
        ("0", 0),
        (None, 0),
        (True, 0),
        (False, 0),
        (65_536, 65_536),
        (4_294_967_296, 4_294_967_296),
        (2.0**53, 2**53),
        (MAX, MAX),
        (str(MAX), MAX),
    ],
)
def test_valid_counts(value: object, read: int) -> None:
    """Whole numbers, whole floats and digits are read; null and booleans are absent."""
    assert ("ok", {"prompt_text": read} if read else {}) == counted({"prompt_tokens": value})


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -5.0,
        "-5",
        "+5",
        1.5,
        "1.5",
        "10.0",
        "1e3",
        "1_000",
        "1,000",
        "0x10",
        "ten",
        "",
        " ",
        "٣",
        "²",
        "9" * 5000,
        MAX + 1,
        2**64,
        10**400,
        float(2**63),
        float("nan"),
        float("inf"),
        float("-inf"),
        [],
        [1],
        {},
        {"n": 1},
        "\ud800",
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "where",
    [
        lambda value: {"prompt_tokens": value, "completion_tokens": 10},
        lambda value: {"prompt_tokens": 10, "completion_tokens": value},
        lambda value: {"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": value},
        lambda value: {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": value}},
        lambda value: {"prompt_tokens": 10, "prompt_tokens_details": {"audio_tokens": value}},
        lambda value: {"completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": value}},
        lambda value: {"input_tokens": 10, "cache_read_input_tokens": value},
        lambda value: {"input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": value}},
        lambda value: {"promptTokenCount": 10, "thoughtsTokenCount": value},
        lambda value: {"promptTokenCount": 10, "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": value}]},
    ],
    ids=["prompt", "completion", "total", "cached", "audio", "reasoning", "flat", "nested", "gemini", "modality"],
)
def test_invalid_counts(where: Any, value: object) -> None:
    """One bad count anywhere makes the whole usage invalid, with no counts at all."""
    assert counted(where(value)) == ("invalid", {})


@pytest.mark.parametrize("raw", [None, {}])
def test_missing(raw: object) -> None:
    """No usage, null and an empty object are missing."""
    assert counted(raw) == ("missing", {})


@pytest.mark.parametrize("raw", [[], [1], "", "5", 5, 0, 1.5, True, False], ids=repr)
def test_a_usage_that_is_not_an_object_is_invalid(raw: object) -> None:
    """It can't be read."""
    assert counted(raw) == ("invalid", {})


@pytest.mark.parametrize(
    "details",
    ["", "text", 5, -1, 0.5, ["text"], [5], [None]],
    ids=repr,
)
def test_details_of_the_wrong_kind_are_invalid(details: object) -> None:
    """Details are an object, or a list of objects."""
    assert counted({"prompt_tokens": 10, "prompt_tokens_details": details}) == ("invalid", {})


@pytest.mark.parametrize("case", TABLE)
def test_rule(case: str) -> None:
    """Each usage has the status and the classes of its case."""
    raw, status, classes = TABLE[case]

    assert (status, classes) == counted(raw)


def test_the_usage_is_not_changed() -> None:
    """Normalising doesn't change its argument."""
    raw = {"promptTokens": 5, "promptTokensDetails": {"cachedTokens": 2}}
    normalise_usage(raw)

    assert raw == {"promptTokens": 5, "promptTokensDetails": {"cachedTokens": 2}}
