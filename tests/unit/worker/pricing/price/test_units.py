"""Cost by images, megapixels and seconds: each model by its own unit, and by nothing else."""

from typing import Any

import pytest

from tests.support.pricing.books import BOOK, tokens
from tests.support.pricing.cases import image, text, usd


@pytest.mark.parametrize(
    ("data", "cost"),
    [
        ({}, "0.04"),
        ({"num_images": 3}, "0.12"),
        ({"quality": "hd", "image_size": "1024x1024"}, "0.08"),
        ({"quality": "hd", "image_size": "1024X1024"}, "0.08"),
        ({"quality": "hd", "image_size": "512x512"}, "0.12"),
        ({"quality": "hd"}, "0.12"),
        ({"quality": "HD"}, "0.04"),
        ({"image_size": "1024x1024"}, "0.04"),
        ({"image_size": "256x256"}, "0.01"),
        ({"image_size": "256x256", "has_input_image": False}, "0.01"),
        ({"image_size": "256x256", "has_input_image": True}, "0.04"),
    ],
)
def test_variants(data: dict[str, Any], cost: str) -> None:
    """The first variant whose conditions are all true, else the base rate."""
    price = image(BOOK, model="picture", **data).price

    assert (usd(cost), "priced") == (price.cost, price.cost_status)


@pytest.mark.parametrize(
    ("data", "cost", "status"),
    [
        ({"model": "picture", "num_images": 0}, "0", "no_usage"),
        ({"model": "picture", "status": "error"}, "0", "no_usage"),
        ({"model": "picture", "error": "refused"}, "0", "no_usage"),
        ({"model": "picture", "status": "error", "num_images": 2}, "0.08", "priced"),
        ({"model": "picture", "usage": {"prompt_tokens": 7, "completion_tokens": 4000}}, "0.04", "priced"),
        ({"model": "picture", "usage": {"prompt_tokens": -7}}, "0.04", "priced"),
        ({"model": "picture", "num_images": 2**63 - 1}, "0", "unpriced"),
        ({"model": "pixels", "image_size": "1024x1024", "num_images": 2}, "0.006291456", "priced"),
        ({"model": "pixels", "num_images": 2}, "0", "no_usage"),
        ({"model": "pixels", "image_size": "large"}, "0", "no_usage"),
        (
            {"model": "pixels", "image_size": "4294967295x4294967295", "num_images": 2**63 - 1},
            "0",
            "unpriced",
        ),
        ({"model": "film"}, "0", "no_usage"),
        ({"model": "film", "video_seconds": 0, "audio_seconds": 0}, "0", "no_usage"),
        ({"model": "film", "video_seconds": 5.0625}, "0.405", "priced"),
        ({"model": "film", "video_seconds": 2, "audio_seconds": 1.5}, "0.19", "priced"),
        ({"model": "film", "video_seconds": 121 / 24}, "0.403333333333", "priced"),
        ({"model": "film", "video_seconds": 1e-300}, "0", "priced"),
        ({"model": "film", "video_seconds": 2, "num_images": 9}, "0.16", "priced"),
        ({"model": "film", "usage": {"prompt_tokens": 7}}, "0", "partial"),
        ({"model": "full", "usage": {"prompt_tokens": 1000}, "num_images": 5}, "0.001", "priced"),
        ({"model": "full", "num_images": 5}, "0", "no_usage"),
    ],
)
def test_units(data: dict[str, Any], cost: str, status: str) -> None:
    """Each model by its own unit, and by nothing else."""
    price = image(BOOK, **data).price

    assert (usd(cost), status) == (price.cost, price.cost_status)


def test_seconds_without_a_rate_are_left_out() -> None:
    """A film with sound at a model that has no price for sound is partial."""
    price = image(model="wan-fast", video_seconds=2, audio_seconds=2).price

    assert (usd("0.02"), "partial", {"video_second": "0.01"}) == (price.cost, price.cost_status, price.rates)


@pytest.mark.parametrize(
    ("usage", "status"), [(None, "no_usage"), ({}, "no_usage"), (tokens(), "partial"), ([], "unpriced")]
)
def test_text_of_a_model_priced_per_image(usage: Any, status: str) -> None:
    """A text event of a model that is priced per image: its tokens are not images, and not free either."""
    price = text(BOOK, model="picture", usage=usage).price

    assert (usd("0"), status) == (price.cost, price.cost_status)
