"""The output of `birdfeed prices explain` for each number of a usage."""

from birdfeed_worker.pricing.usage.readings import readings


def test_each_number() -> None:
    """As what it is read, another spelling of a read one, only informative, or not read."""
    raw = {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 4, "text_tokens": 6},
        "cached_tokens": 4,
        "video_frames": 3,
        "note": "a text",
    }

    assert [str(one) for one in readings(raw)] == [
        "usage.prompt_tokens 10: read as prompt",
        "usage.completion_tokens 2: read as completion",
        "usage.total_tokens 12: read as total",
        "usage.prompt_tokens_details.cached_tokens 4: read as prompt_cached",
        "usage.prompt_tokens_details.text_tokens 6: informs only",
        "usage.cached_tokens 4: another spelling counts",
        "usage.video_frames 3: not read",
    ]


def test_inside_a_response() -> None:
    """The numbers of the usage in it, by modality too."""
    raw = {
        "usageMetadata": {
            "promptTokenCount": 5,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 3}, {"modality": "TEXT", "tokenCount": 2}],
        }
    }

    assert [str(one) for one in readings(raw)] == [
        "usage.promptTokenCount 5: read as prompt",
        "usage.promptTokensDetails.audio_tokens 3: read as prompt_audio",
        "usage.promptTokensDetails.text_tokens 2: informs only",
    ]


def test_what_cannot_be_read() -> None:
    """No object, no numbers."""
    assert readings(None) == readings("text") == readings({"a": [[1]]}) == []


def test_invalid_counts() -> None:
    """What makes a usage invalid is named; digits in a text are a count."""
    raw = {"prompt_tokens": -1, "completion_tokens": "12", "prompt_tokens_details": {"cached_tokens": "many"}}

    assert [str(one) for one in readings(raw)] == [
        "usage.prompt_tokens -1: not a count, so nothing is read",
        "usage.completion_tokens '12': read as completion",
        "usage.prompt_tokens_details.cached_tokens 'many': not a count, so nothing is read",
    ]
