"""Writes data/media_prices.toml: what public image, video, speech and OCR models cost. Run by `make media-prices`.

The facts are litellm's bundled map (MIT; a development dependency), with what providers' own tables say instead where
the two differ or the map has nothing (see OWN).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from birdfeed_schemas.tables.providers import family_of

OUT: Final = Path(__file__).parent.parent / "schemas" / "birdfeed_schemas" / "data" / "media_prices.toml"
MAP: Final = "model_prices_and_context_window_backup.json"
MODES: Final = (*("image_generation", "image_edit", "video_generation", "audio_speech", "audio_transcription", "ocr"),)
_SIZE: Final = re.compile(r"^(\d+)-x-(\d+)$")
_QUALITIES: Final = frozenset(("low", "medium", "high", "standard", "hd", "xhigh", "max", "auto", "premium"))
_STEPS: Final = re.compile(r"^(?:\d+|max)-steps$")
#: Unit → keys of the map that are prices by it; the first that is above 0 is used.
_PRICES: Final[Mapping[str, tuple[str, ...]]] = {
    "image": ("output_cost_per_image", "input_cost_per_image"),
    "video_second": ("output_cost_per_second", "output_cost_per_video_per_second"),
    "character": ("input_cost_per_character",),
    "audio_second": ("input_cost_per_second", "output_cost_per_second"),
    "page": ("ocr_cost_per_page",),
}
_UNIT_OF_MODE: Final = {
    "image_generation": "image",
    "image_edit": "image",
    "video_generation": "video_second",
    "audio_speech": "character",
    "audio_transcription": "audio_second",
    "ocr": "page",
}
_UNIT: Final = {"video_second": "second", "audio_second": "second"}
#: Family → the provider that makes its models; its price is used where an event names no provider.
_MAKERS: Final = (
    *("openai", "google", "vertex", "recraft", "blackforestlabs", "stability", "ideogram", "runway", "xai", "mistral"),
    *("elevenlabs", "deepgram", "assemblyai", "aws", "alibaba", "minimax", "fal"),
)
_DALLE: Final = "https://platform.openai.com/docs/pricing (per-image table)"
_GOOGLE: Final = "https://ai.google.dev/gemini-api/docs/pricing"
#: Note for prices for which no source could be read.
_NOT_CONFIRMED: Final = " (not confirmed since 2025)"
_VEO: Final = "https://cloud.google.com/gemini-enterprise-agent-platform/generative-ai/pricing#veo"
_BFL: Final = "https://docs.bfl.ml/quick_start/pricing"
_BFL_MAP: Final = "https://bfl.ai/pricing, by litellm's map"
#: From providers' own tables: (family, model): unit, base price, variants, source. Checked on 2026-11-28, without the
#: pages themselves where they can't be reached:
#: DALL-E: two published copies of OpenAI's table. Sora: litellm's map and four published copies. Imagen 4: what fal and
#: aiml charge for it (the same; 1.3 times as for all they sell). Veo 3: litellm's map of Google's table; the fast one
#: is 0.10 there (0.12 at 1080p), no longer 0.15. FLUX: the provider's page in docs.bfl.ml for 1.1 and Kontext, the map
#: for the others. Nova Canvas: a reseller's four prices are three times these.
OWN: Final[Mapping[tuple[str, str], tuple[str, str, tuple[tuple[dict[str, str], str], ...], str]]] = {
    ("openai", "dall-e-3"): (
        "image",
        "0.04",
        (
            ({"quality": "hd", "size": "1024x1792"}, "0.12"),
            ({"quality": "hd", "size": "1792x1024"}, "0.12"),
            ({"quality": "hd"}, "0.08"),
            ({"size": "1024x1792"}, "0.08"),
            ({"size": "1792x1024"}, "0.08"),
        ),
        _DALLE,
    ),
    ("openai", "dall-e-2"): ("image", "0.02", (({"size": "512x512"}, "0.018"), ({"size": "256x256"}, "0.016")), _DALLE),
    ("openai", "sora-2"): ("video_second", "0.1", (), "https://platform.openai.com/docs/pricing (video)"),
    ("openai", "sora-2-pro"): (
        "video_second",
        "0.3",
        (({"size": "1792x1024"}, "0.5"), ({"size": "1024x1792"}, "0.5"), ({"resolution": "1024p"}, "0.5")),
        "https://platform.openai.com/docs/pricing (video)",
    ),
    ("google", "imagen-4.0-generate-001"): ("image", "0.04", (), _GOOGLE),
    ("google", "imagen-4.0-fast-generate-001"): ("image", "0.02", (), _GOOGLE),
    ("google", "imagen-4.0-ultra-generate-001"): ("image", "0.06", (), _GOOGLE),
    ("google", "imagen-3.0-generate-002"): ("image", "0.03", (), _GOOGLE + _NOT_CONFIRMED),
    ("google", "veo-3.0-generate-001"): ("video_second", "0.4", (), _VEO),
    ("google", "veo-3.0-fast-generate-001"): ("video_second", "0.1", (({"resolution": "1080p"}, "0.12"),), _VEO),
    ("google", "veo-2.0-generate-001"): ("video_second", "0.35", (), _GOOGLE + _NOT_CONFIRMED),
    ("blackforestlabs", "flux-pro-1.1"): ("image", "0.04", (), _BFL),
    ("blackforestlabs", "flux-pro-1.1-ultra"): ("image", "0.06", (), _BFL),
    ("blackforestlabs", "flux-pro"): ("image", "0.05", (), _BFL_MAP),
    ("blackforestlabs", "flux-dev"): ("image", "0.025", (), _BFL_MAP),
    ("blackforestlabs", "flux-kontext-pro"): ("image", "0.04", (), _BFL),
    ("blackforestlabs", "flux-kontext-max"): ("image", "0.08", (), _BFL),
    ("aws", "amazon.nova-canvas-v1:0"): (
        "image",
        "0.04",
        (
            ({"quality": "premium", "resolution": "2k"}, "0.08"),
            ({"quality": "premium"}, "0.06"),
            ({"resolution": "2k"}, "0.06"),
        ),
        "https://aws.amazon.com/bedrock/pricing/ (Amazon Nova Canvas)",
    ),
}
#: Common names of the map's models.
ALIASES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("google", "imagen-4.0-generate-001"): ("imagen-4.0-generate", "imagen-4"),
    ("google", "imagen-3.0-generate-002"): ("imagen-3.0-generate",),
    ("google", "veo-3.0-generate-001"): ("veo-3.0-generate-preview", "veo-3.0", "veo-3"),
    ("google", "veo-3.0-fast-generate-001"): ("veo-3.0-fast-generate-preview", "veo-3.0-fast"),
    ("google", "veo-2.0-generate-001"): ("veo-2.0", "veo-2"),
    ("blackforestlabs", "flux-kontext-pro"): ("flux.1-kontext-pro", "black-forest-labs/flux-kontext-pro"),
    ("blackforestlabs", "flux-pro-1.1"): ("black-forest-labs/flux-1.1-pro", "flux-1.1-pro"),
    ("blackforestlabs", "flux-pro-1.1-ultra"): ("black-forest-labs/flux-1.1-pro-ultra", "flux-1.1-pro-ultra"),
}
_RESOLUTION: Final = re.compile(r"^output_cost_per_(?:second|image)_(\d+(?:\.\d+)?[pPkK])$")


@dataclass
class Model:
    """One model at one provider, as it is collected."""

    family: str
    name: str
    unit: str
    source: str
    base: Decimal | None = None
    variants: list[tuple[dict[str, str], Decimal]] = field(default_factory=list)


def amount(value: object) -> Decimal | None:
    """A price of the map, or None where it has none; to 12 places."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = Decimal(repr(value)).quantize(Decimal("1e-12")).normalize()
    return number if 0 < number < 1_000 else None


def taken_apart(key: str, provider: str) -> tuple[str, dict[str, str], bool]:
    """Split a key of the map: the model's own name, its conditions, and whether it is for a number of steps."""
    conditions: dict[str, str] = {}
    parts, steps = [], False
    for part in key.split("/"):
        size = _SIZE.match(part)
        if size:
            conditions["size"] = f"{size[1]}x{size[2]}"
        elif part in _QUALITIES:
            conditions["quality"] = part
        elif _STEPS.match(part) or part == "max-x-max":
            steps = True
        else:
            parts.append(part)
    while len(parts) > 1 and family_of(parts[0]) == family_of(provider):
        parts.pop(0)
    return "/".join(parts), conditions, steps


def collect(prices: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Model]:
    """The models of the map that are paid for by image, second, character or page."""
    found: dict[tuple[str, str], Model] = {}
    bundled = f"litellm {version('litellm')}, {MAP}"
    for key, price in prices.items():
        unit = _UNIT_OF_MODE.get(str(price.get("mode")))
        provider = str(price.get("litellm_provider") or "")
        if unit is None or not provider:
            continue
        name, conditions, steps = taken_apart(key, provider)
        base = next((rate for field_ in _PRICES[unit] if (rate := amount(price.get(field_))) is not None), None)
        family = family_of(provider)
        if steps or (family, name) in OWN:
            continue
        if unit == "image" and base is not None and not price.get("output_cost_per_image") and not conditions:
            continue  # a price per image put in, not per image made
        resolutions = [
            ({"resolution": match[1].lower()}, rate)
            for field_, value in price.items()
            if (match := _RESOLUTION.match(field_)) and (rate := amount(value)) is not None
        ]
        if base is None and not resolutions:
            continue
        if base is None:
            base = resolutions[0][1]
        model = found.setdefault((family, name), Model(family, name, unit, str(price.get("source") or bundled)))
        if conditions:
            model.variants.append((conditions, base))
        else:
            model.base = base
            model.variants += resolutions
    for (family, name), (unit, base_text, variants, source) in OWN.items():
        own = [(when, Decimal(rate)) for when, rate in variants]
        found[family, name] = Model(family, name, unit, source, Decimal(base_text), own)
    return found


def with_base(model: Model) -> Decimal:
    """Add the price where no condition holds: the model's own, else that of a medium square image, else the median."""
    if model.base is not None:
        return model.base
    for wanted in ({"quality": "medium", "size": "1024x1024"}, {"quality": "standard", "size": "1024x1024"}):
        for when, rate in model.variants:
            if when == wanted:
                return rate
    rates = sorted(rate for _, rate in model.variants)
    return rates[len(rates) // 2]


def lines(models: Mapping[tuple[str, str], Model], as_of: date) -> Iterator[str]:
    """The book, model by model."""
    ranked = sorted(models.values(), key=lambda one: (_rank(one.family), one.family, one.name))
    taken = {f"{one.family}/{one.name}" for one in ranked}
    for model in ranked:
        full = f"{model.family}/{model.name}"
        aliases = []
        for alias in (model.name, *ALIASES.get((model.family, model.name), ())):
            for spelling in dict.fromkeys((alias, alias.lower())):
                if spelling not in taken:
                    taken.add(spelling)
                    aliases.append(spelling)
        unit = _UNIT.get(model.unit, model.unit)
        yield "[[model]]"
        yield f"name = {json.dumps(full)}"
        if aliases:
            yield f"aliases = {json.dumps(aliases)}"
        yield f"provider = {json.dumps(model.family)}"
        yield f"source = {json.dumps(model.source)}"
        yield f"as_of = {as_of.isoformat()}"
        yield f"unit = {json.dumps(unit)}"
        price = f"{model.unit} = {with_base(model):f}"
        # Those with more conditions first: the first that holds is used.
        variants = sorted(model.variants, key=lambda one: (-len(one[0]), sorted(one[0].items())))
        if variants:
            said = ", ".join(f"{{ when = {_table(when)}, {model.unit} = {rate:f} }}" for when, rate in variants)
            price += f", variants = [{said}]"
        yield f"price = {{ {price} }}"
        yield ""


def _table(when: Mapping[str, str]) -> str:
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in when.items()) + " }"


def _rank(family: str) -> int:
    return _MAKERS.index(family) if family in _MAKERS else len(_MAKERS)


def made(as_of: date) -> str:
    """The text of the file."""
    # Not imported: importing litellm asks the network for a newer map.
    package = find_spec("litellm")
    assert package is not None
    assert package.origin is not None
    prices = json.loads((Path(package.origin).parent / MAP).read_text(encoding="utf-8"))
    models = collect(prices)
    head = (
        "# Prices of public image, video, speech and OCR models, USD: per image, megapixel, second, character, page.\n"
        "# Made by `make media-prices` from litellm's bundled map (MIT License, Copyright (c) 2023 Berri AI) and\n"
        "# providers' own tables; each model with its source and date. To change it, change .ci/media_prices.py.\n"
    )
    return head + "\n" + "\n".join(lines(models, as_of))


if __name__ == "__main__":
    text = made(date.today())
    OUT.write_text(text, encoding="utf-8")
    print(f"{OUT}: {text.count('[[model]]')} models")
