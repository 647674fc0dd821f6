"""Generate docs/reference/columns.md from the datafiles and the meter table: `python -m docs.scripts.columns`."""

import re
from collections.abc import Mapping
from typing import Final

from birdfeed_schemas.datafiles import datafiles
from birdfeed_schemas.tables.meters import METERS

_COLUMN: Final = re.compile(r"^\s+`(\w+)` (.+?) `json:[^`]*`(?: DEFAULT (.+?))?,?$", re.MULTILINE)

#: Column → the field of an event that it is read from ("" if birdfeed computes it), and its meaning.
MEANINGS: Final[Mapping[str, tuple[str, str]]] = {
    "event_id": ("", "the event's id (UUIDv7), made when it was tracked; rows with the same id are the same event"),
    "event_type": ("the type given to track_event", "`text_generation`, `image_generation`, or a package's own"),
    "occurred_at": ("", "when the event was tracked (UTC)"),
    "timestamp": (
        "start_time",
        "when the request began (UTC); without one, its end or `occurred_at` less the duration",
    ),
    "end_time": ("end_time", "when the request ended (UTC)"),
    "time_clamped": ("", "true: a time was impossible, and was moved to the nearest possible one"),
    "model": ("model", "the model that was asked for"),
    "model_used": ("model_used", "the model that answered; without one, `model`"),
    "provider": (
        "provider",
        "the model's provider; without one, the provider of the price that was used, or `unknown`",
    ),
    "user": ("user", "who made the request; the HMAC of it with `BIRDFEED_USER_HMAC_KEY`; `unknown` without one"),
    "username": ("username", "the user's name, treated like `user`"),
    "tier": ("tier", "the user's plan; without one looked up (`BIRDFEED_TIERS`), `anonymous` or `unknown`"),
    "tier_source": ("", "where the tier is from; see [statuses](statuses.md#tier_source)"),
    "response_status": ("status", "`success` or `error`"),
    "error_type": ("error", "the error's type, such as `RateLimitError`"),
    "error_code": ("error", "the error's code, such as `429`"),
    "exception": ("error", "the error's message, as far as `BIRDFEED_ERROR_MESSAGE` lets it be sent"),
    "traceback": ("error", "the error's traceback, with `BIRDFEED_KEEP_TRACEBACK` only"),
    "duration": ("duration", "how long the request took, in ms; without one, `end_time` less `start_time`"),
    "request_id": ("request_id", "the id of the application's request"),
    "referrer": ("referrer", "the host of the page the request came from"),
    "cache_hit": ("cache_hit", "true: a cache of your own answered, so it cost nothing"),
    "cache_key": ("cache_key", "the key in that cache"),
    "service_tier": ("service_tier, usage", "the provider's service tier, such as `batch` or `priority`"),
    "cost": ("", "the cost in USD, exact to 12 places; 0 where it could not be priced"),
    "cost_status": ("", "how far the cost can be trusted; see [statuses](statuses.md#cost_status)"),
    "usage_status": ("", "how far the usage could be read; see [statuses](statuses.md#usage_status)"),
    "price_match": ("", "how the price was found; see [statuses](statuses.md#price_match)"),
    "price_model": ("", "the entry of the price book that was used"),
    "price_source": ("", "where the price is from; see [statuses](statuses.md#price_source)"),
    "price_book": ("", "a short hash of the price book that was used"),
    "price_rates": ("", "JSON: the rates that were used; the receipt, from which the cost can be recomputed"),
    "stream": ("stream", "true: the answer was streamed"),
    "organization": ("organization", "whose request it was: an organization"),
    "project": ("project", "whose request it was: a project"),
    "environment": ("environment", "such as `production`"),
    "chat_id": ("chat_id", "the conversation the request belongs to"),
    "response_id": ("response_id", "the provider's id of the answer"),
    "moderation": ("moderation", "JSON: the verdicts of a moderation, without any text"),
    "moderation_flagged": ("moderation", "true: a verdict says filtered, flagged, detected or blocked"),
    "image_size": ("image_size", "the size that was asked for, such as `1024x1024`"),
    "width": ("image_size", "width in pixels; 0 where the size names none"),
    "height": ("image_size", "height in pixels; 0 where the size names none"),
    "num_images": ("num_images", "images that were made; 1 where a success names no number, 0 where a failure does"),
    "quality": ("quality", "the quality that was asked for, such as `high`"),
    "has_input_image": ("has_input_image", "true: the request had an image in it"),
    "video_seconds": ("video_seconds", "seconds of video that were made"),
    "audio_seconds": ("audio_seconds", "seconds of audio that were made or heard"),
    "usage_raw": ("usage", "JSON: the usage as it was sent, numbers and short words only; at most 1,024 bytes"),
    "usage_raw_dropped": ("usage", "true: the usage could not be kept (too large, or a key that may be private)"),
    "truncated": ("", "true: some text or structure of the event was cut to its bound"),
    "trace_id": ("trace_id", "OpenTelemetry's id of the trace"),
    "span_id": ("span_id", "OpenTelemetry's id of the span"),
    "sample_rate": ("sample_rate", "the share of such events that was sent: the row represents 1 / `sample_rate`"),
    "extra": ("fields in `BIRDFEED_EXTRA_FIELDS`", "JSON: the fields that the operator allowed by name"),
    "dropped_fields": ("", "how many fields of the event were not sent or not stored"),
    "enriched_at": ("", "when a worker priced it (UTC); the row's version: of rows with one id the newest counts"),
    "replay_id": ("", "the name of the replay that brought it back, if one did"),
}
#: Meter → what it counts, if its column's name does not say it.
_COUNTED: Final[Mapping[str, str]] = {
    "prompt_text": "text that went in, without what the other classes count",
    "prompt_cached": "input read from the provider's cache",
    "prompt_cached_audio": "audio read from the provider's cache",
    "prompt_cached_image": "images read from the provider's cache",
    "prompt_cache_write": "input written to the provider's cache for 5 minutes, or for a time that is not reported",
    "prompt_cache_write_1h": "input written to the provider's cache for an hour",
    "prompt_audio": "audio that went in",
    "prompt_image": "images that went in",
    "completion_text": "text that came out",
    "completion_audio": "audio that came out",
    "completion_image": "images that came out",
    "completion_reasoning": "reasoning that came out",
    "citation_tokens": "citations that the answer was built from, billed beside its tokens",
    "web_searches": "web searches the model made",
    "search_queries": "queries of those searches, where the provider bills by them",
    "search_units": "search units, as Cohere bills reranking",
    "requests": "requests to the provider behind the event; 1 unless the usage says more",
    "pages": "pages that were read (OCR)",
    "characters": "characters that were spoken or read",
    "seconds": "seconds of audio that were billed",
}


def meaning_of(column: str) -> tuple[str, str]:
    """The source field and the meaning of a column.

    Raises:
        KeyError: It has no entry in MEANINGS.
    """
    for meter in METERS:
        if meter.column == column:
            return "usage", _COUNTED[meter.name]
    return MEANINGS[column]


def columns() -> dict[str, list[tuple[str, str, str]]]:
    """(Name, type, default) of each column, by data source."""
    return {
        path.rsplit("/", 1)[-1].removesuffix(".datasource"): _COLUMN.findall(text)
        for path, text in datafiles().items()
        if path.startswith("datasources/")
    }


def page() -> str:
    """docs/reference/columns.md."""
    lines = [
        "# Columns",
        "",
        "<!-- made by `make docs`; a test fails if it is out of date -->",
        "",
        "What birdfeed writes to Tinybird. *From* is the field of the event that a column is read from; where it is",
        "empty, birdfeed makes the value. Times are UTC, money is USD, durations are milliseconds. The token classes",
        "are disjoint and sum to the totals. A row leaves out what equals the column's default.",
        "",
        "A table of Tinybird's LLM template has fewer columns: [Migrate an existing llm_events](../how-to/migrate.md).",
        "",
    ]
    for source, found in columns().items():
        lines += [f"## {source}", "", "| column | type | default | from | meaning |", "| --- | --- | --- | --- | --- |"]
        for name, kind, default in found:
            field, meaning = meaning_of(name)
            given = f"`{field}`" if re.fullmatch(r"\w+", field) else field
            lines.append(f"| `{name}` | {kind} | {f'`{default}`' if default else 'required'} | {given} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")
