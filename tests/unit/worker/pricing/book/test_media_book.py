"""The shipped media book: facts with provider, source and date; made by a target, the best known checked by hand."""

import importlib.util
import sys
import tomllib
from datetime import date
from decimal import Decimal
from importlib.resources import files
from types import ModuleType
from typing import Any

import pytest
from birdfeed_worker.pricing.book.book import load, media_book

from tests.support.pricing.cases import DEFAULT, image
from tests.support.repository import ROOT

#: From the providers' own pages, read 2026-11: model, data of an event, USD.
CHECKED: list[tuple[str, dict[str, Any], str]] = [
    *(
        ("gpt-image-1", {"quality": quality, "image_size": size}, usd)
        for quality, prices in (
            ("low", ("0.011", "0.016", "0.016")),
            ("medium", ("0.042", "0.063", "0.063")),
            ("high", ("0.167", "0.25", "0.25")),
        )
        for size, usd in zip(("1024x1024", "1024x1536", "1536x1024"), prices, strict=True)
    ),
    ("dall-e-3", {"image_size": "1024x1024"}, "0.04"),
    ("dall-e-3", {"image_size": "1792x1024"}, "0.08"),
    ("dall-e-3", {"image_size": "1024x1024", "quality": "hd"}, "0.08"),
    ("dall-e-3", {"image_size": "1024x1792", "quality": "hd"}, "0.12"),
    ("dall-e-2", {"image_size": "1024x1024"}, "0.02"),
    ("dall-e-2", {"image_size": "512x512"}, "0.018"),
    ("dall-e-2", {"image_size": "256x256"}, "0.016"),
    ("sora-2", {"video_seconds": 10}, "1"),
    ("sora-2-pro", {"video_seconds": 10, "image_size": "1280x720"}, "3"),
    ("sora-2-pro", {"video_seconds": 10, "image_size": "1792x1024"}, "5"),
    ("whisper-1", {"audio_seconds": 60}, "0.006"),
    ("tts-1", {"characters": 1_000_000}, "15"),
    ("tts-1-hd", {"characters": 1_000_000}, "30"),
    ("imagen-4.0-generate-001", {"num_images": 1}, "0.04"),
    ("imagen-4.0-fast-generate-001", {"num_images": 1}, "0.02"),
    ("imagen-4.0-ultra-generate-001", {"num_images": 1}, "0.06"),
    ("imagen-3.0-generate-002", {"num_images": 1}, "0.03"),
    ("veo-3.0-generate-001", {"video_seconds": 8}, "3.2"),
    ("veo-3.0-fast-generate-001", {"video_seconds": 8}, "0.8"),
    ("veo-3.0-fast-generate-001", {"video_seconds": 8, "image_size": "1920x1080"}, "0.96"),
    ("veo-2.0-generate-001", {"video_seconds": 8}, "2.8"),
    ("flux-pro-1.1", {"num_images": 1}, "0.04"),
    ("flux-pro-1.1-ultra", {"num_images": 1}, "0.06"),
    ("flux-dev", {"num_images": 1}, "0.025"),
    ("flux-kontext-pro", {"num_images": 1}, "0.04"),
    ("flux-kontext-max", {"num_images": 1}, "0.08"),
    ("fal-ai/flux/dev", {"num_images": 1}, "0.025"),
    ("fal-ai/flux/schnell", {"num_images": 2}, "0.006"),
    ("recraftv3", {"num_images": 1}, "0.04"),
    ("recraftv2", {"num_images": 1}, "0.022"),
    ("amazon.nova-canvas-v1:0", {"image_size": "1024x1024"}, "0.04"),
    ("amazon.nova-canvas-v1:0", {"image_size": "1024x1024", "quality": "premium"}, "0.06"),
    ("stability.sd3-5-large-v1:0", {"num_images": 1}, "0.08"),
]


@pytest.mark.parametrize(("model", "data", "usd"), CHECKED)
def test_well_known_models(model: str, data: dict[str, Any], usd: str) -> None:
    """More than forty prices, with the default settings."""
    price = image(DEFAULT, model=model, **data).price

    assert Decimal(usd) == price.cost
    assert price.cost_status in ("priced", "estimated")


def test_every_model_has_its_source_and_date() -> None:
    """A price without them can't be checked."""
    text = (files("birdfeed_schemas") / "data" / "media_prices.toml").read_text()
    models = tomllib.loads(text)["model"]

    assert len(models) > 300
    assert all(model["source"] and isinstance(model["as_of"], date) and model["provider"] for model in models)


def test_it_is_read_when_first_needed() -> None:
    """Reading takes half a second, which an app of text models never needs."""
    media_book.cache_clear()
    image(DEFAULT, model="flux", num_images=1)

    assert media_book.cache_info().currsize == 0
    assert image(DEFAULT, model="recraftv3").price.price_source == "media"
    assert media_book.cache_info().currsize == 1


def test_the_target_writes_what_is_shipped() -> None:
    """`make media-prices` gives the same models and prices from litellm's map as it is installed."""
    shipped = tomllib.loads((files("birdfeed_schemas") / "data" / "media_prices.toml").read_text())
    made = tomllib.loads(_target().made(date(2026, 1, 1)))

    def facts(book: dict[str, Any]) -> dict[str, Any]:
        return {model["name"]: (model["unit"], model["price"]) for model in book["model"]}

    assert facts(shipped) == facts(made)


def test_corrections_have_a_source() -> None:
    """Entries of the shipped book that are not deployments of its platform."""
    corrections = [model for model in load().models.values() if model.source]

    assert {model.name for model in corrections} >= {
        *("deepseek-chat", "mistral-large-latest", "grok-code-fast-1", "gpt-4o-audio-preview", "rerank-v3.5"),
    }
    assert all(model.as_of is not None for model in corrections)


def _target() -> ModuleType:
    spec = importlib.util.spec_from_file_location("media_prices", ROOT / ".ci" / "media_prices.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
