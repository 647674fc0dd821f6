"""Rows as the worker makes them, of random events, for tests of storing and reading them."""

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import msgspec
from birdfeed_schemas.enrichment import CostStatus, Price, PriceMatch, PriceSource, Tier, Tokens, Usage, UsageStatus
from birdfeed_schemas.registry import registry
from birdfeed_schemas.rows import Enriched
from birdfeed_schemas.tables.meters import TOKEN_CLASSES
from birdfeed_schemas.wire.envelope import Envelope, format_time

MODELS = ("openai", "openai-fast", "mistral", "claude", "naïve model", "m")
PROVIDERS = ("azure", "aws", "google", None)
TIERS = ("anonymous", "spore", "seed", "flower", "unknown")
USERS = ("ann", "bob", "cem", "dee", "eve'; --", "ünï", None)
SIZES = ("1024x1024", "512x768", "big", None)
MODERATIONS: tuple[dict[str, Any] | None, ...] = (
    None,
    {"hate": {"filtered": False, "severity": "safe"}},
    {"violence": {"filtered": True, "severity": "high"}, "hate": {"filtered": False}},
)


def event_id(dice: random.Random, when: datetime) -> str:
    """A UUIDv7 of a time, with random bits."""
    clock = f"{int(when.timestamp() * 1000):012x}"
    noise = f"{dice.getrandbits(74):019x}"
    return f"{clock[:8]}-{clock[8:]}-7{noise[:3]}-8{noise[3:6]}-{noise[6:18]}"


def row(dice: random.Random, event_type: str, when: datetime) -> dict[str, Any]:
    """The row of one random event that occurred then."""
    data = text_data(dice) if event_type == "text_generation" else _image(dice)
    return built(dice, event_type, when, data)


def built(dice: random.Random, event_type: str, when: datetime, data: Mapping[str, Any]) -> dict[str, Any]:
    """The row of an event with this data and random facts, as it is sent."""
    kind = registry()[event_type]
    cost = Decimal(dice.randrange(10**11)) / Decimal(10**12)
    return sent(
        Enriched(
            envelope=Envelope(event_id=event_id(dice, when), event_type=event_type, occurred_at=when, data=dict(data)),
            event=kind.event.model_validate(data),
            usage=Usage(
                status=dice.choice(get_args(UsageStatus)), tokens=Tokens(*(_count(dice) for _ in TOKEN_CLASSES))
            ),
            price=Price(
                units=int(cost * 10**12),
                cost_status=dice.choice(get_args(CostStatus)),
                price_match=dice.choice(get_args(PriceMatch)),
                price_model=dice.choice((None, "gpt-4.1-nano")),
                price_book="0123abcd",
                price_source=dice.choice(get_args(PriceSource)),
                provider=dice.choice(PROVIDERS),
                rates_json='{"prompt_text":"0.1","completion_text":"0.4"}',
            ),
            tier=Tier(tier=dice.choice(TIERS), source="lookup"),
            enriched_at=when + timedelta(seconds=2, microseconds=dice.randrange(10**6)),
            extra={"feature": "chat"} if dice.random() < 0.2 else {},
            dropped_fields=dice.randrange(3),
            keep_traceback=True,
        )
    )


def sent(enriched: Enriched) -> dict[str, Any]:
    """A row as its JSON has it: times are text, and a column's default is left out."""
    build = registry()[enriched.envelope.event_type].build_row
    row: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(build(enriched)))
    return row


def filled(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with the defaults, and times that compare as text, as in the store's columns."""
    return _plain(msgspec.convert(row, registry()[row["event_type"]].row))


def _plain(struct: msgspec.Struct) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in msgspec.structs.asdict(struct).items():
        if isinstance(value, msgspec.Struct):
            plain[name] = _plain(value)
        elif value is not msgspec.UNSET:
            plain[name] = format_time(value) if isinstance(value, datetime) else value
    return plain


def repriced(dice: random.Random, before: Mapping[str, Any], enriched_at: str) -> dict[str, Any]:
    """The same event, enriched at another time with another outcome: the fields set by track_event stay."""
    cost = Decimal(dice.randrange(10**11)) / Decimal(10**12)
    as_number = {"cost": float(cost)} if "cost" in before else {}  # the template's column
    return {
        **before,
        **as_number,
        "tier": dice.choice(TIERS),
        "provider": dice.choice(("azure", "elsewhere")),
        "cost_exact": format(cost, "f"),
        "cost_status": dice.choice(get_args(CostStatus)),
        "enriched_at": enriched_at,
    }


def _count(dice: random.Random) -> int:
    return dice.choice((0, 0, dice.randrange(5_000)))


def _common(dice: random.Random) -> dict[str, Any]:
    failed = dice.random() < 0.2
    said: dict[str, Any] = {
        "model": dice.choice(MODELS),
        "model_used": dice.choice((None, "gpt-4.1-nano-2025-04-14", "flux-pro")),
        "user": dice.choice(USERS),
        "username": dice.choice((None, "Ann A.")),
        "duration": dice.choice((None, 0, dice.uniform(1, 30_000))),
        "status": "error" if failed else "success",
        "environment": dice.choice((None, "production", "staging")),
        "organization": dice.choice((None, 17)),
        "request_id": dice.choice((None, "r-1")),
        "cache_hit": dice.choice((None, True, False, False)),
    }
    if failed:
        said["error"] = {"type": "Timeout", "message": 'no "answer"\n', "code": "504", "traceback": "Traceback\n ..."}
    return said


def text_data(dice: random.Random) -> dict[str, Any]:
    """The fields that a handler may set for a random text_generation event."""
    return {
        **_common(dice),
        "stream": dice.choice((None, True)),
        "chat_id": dice.choice((None, "chat-1")),
        "response_id": dice.choice((None, "resp-1")),
        "moderation": dice.choice(MODERATIONS),
    }


def _image(dice: random.Random) -> dict[str, Any]:
    return {
        **_common(dice),
        "image_size": dice.choice(SIZES),
        "num_images": dice.choice((None, 0, 1, 4)),
        "quality": dice.choice((None, "hd")),
        "has_input_image": dice.choice((None, True)),
        "video_seconds": dice.choice((None, "2.5")),
        "audio_seconds": dice.choice((None, 3)),
    }


def sample(dice: random.Random, event_type: str, moments: Sequence[datetime]) -> list[dict[str, Any]]:
    """One row for each time."""
    return [row(dice, event_type, when) for when in moments]
