"""A book with every kind of price, and usage for it."""

from typing import Any

from tests.support.pricing.cases import book

BOOK = book(
    """
    [service_tiers]
    default = 1
    batch = 0.5

    [[model]]
    name = "full"
    aliases = ["also-full"]
    original_name = "full-2026"
    provider = "maker"
    unit = "token"
    service_tiers = { priority = 1.75 }
    price = { prompt_text = 1, prompt_cached = 0.1, prompt_cache_write = 1.25, prompt_audio = 10, prompt_image = 2, \
completion_text = 4, completion_reasoning = 5, completion_audio = 20, completion_image = 30 }

    [[model]]
    name = "text-only"
    unit = "token"
    price = { prompt_text = 1, completion_text = 4 }

    [[model]]
    name = "completion-only"
    unit = "token"
    price = { completion_image = 8 }

    [[model]]
    name = "dated"
    unit = "token"
    price = [
      { until = 2026-01-01, prompt_text = 3 },
      { from = 2026-01-01, until = 2026-06-01T12:00:00Z, prompt_text = 2 },
      { from = 2026-07-01, prompt_text = 1 },
    ]

    [[model]]
    name = "picture"
    provider = "maker"
    unit = "image"
    price = { image = 0.04, variants = [
      { when = { quality = "hd", size = "1024x1024" }, image = 0.08 },
      { when = { quality = "hd" }, image = 0.12 },
      { when = { has_input_image = false, size = "256x256" }, image = 0.01 },
    ] }

    [[model]]
    name = "pixels"
    unit = "megapixel"
    price = { megapixel = 0.003 }

    [[model]]
    name = "film"
    unit = "second"
    price = { video_second = 0.08, audio_second = 0.02 }
    """
)


#: Rates and amounts that floating-point numbers get wrong.
RECEIPT_BOOK = """
service_tiers = { batch = 0.5, priority = 1.75, odd = 0.333333 }

[[model]]
name = "tokens"
unit = "token"
price = { prompt_text = 0.123456789012, prompt_cached = 0.000000000001, prompt_audio = 40, \
completion_text = 99999.99, completion_image = 30 }

[[model]]
name = "picture"
unit = "image"
price = { image = 0.000000000007, variants = [{ when = { quality = "hd" }, image = 0.12 }] }

[[model]]
name = "pixels"
unit = "megapixel"
price = { megapixel = 0.0031 }

[[model]]
name = "film"
unit = "second"
price = { video_second = 0.083333333333, audio_second = 0.02 }
"""


def tokens(**details: int) -> dict[str, Any]:
    """1,000 in and 1,000 out, with these details: prompt_audio=5 and so on."""
    return {
        "prompt_tokens": 1000,
        "completion_tokens": 1000,
        "prompt_tokens_details": {
            key.removeprefix("prompt_") + "_tokens": count for key, count in details.items() if key.startswith("prompt")
        },
        "completion_tokens_details": {
            key.removeprefix("completion_") + "_tokens": count
            for key, count in details.items()
            if key.startswith("completion")
        },
    }
