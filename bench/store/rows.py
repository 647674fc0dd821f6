"""Rows for bench/store, made by ClickHouse itself: a million in about five seconds.

Deterministic: row n is the same in every table and in every run. The events are spread evenly over the days; event_id
is a UUIDv7 of occurred_at's millisecond, as track_event creates it.
"""

from typing import Final

#: When the first event occurs: epoch ms of 2026-10-01T00:00:00Z.
START: Final = 1_790_812_800_000
MODELS: Final = (
    "openai", "openai-fast", "openai-large", "mistral", "gemini", "gemini-fast", "claude", "claude-fast", "deepseek",
    "grok", "qwen-coder", "nova-micro", "perplexity-fast", "kimi", "glm", "llama", "minimax", "openai-audio", "sana",
    "rare",
)  # fmt: skip
TIERS: Final = ("anonymous", "spore", "seed", "flower", "nectar", "router")
PROVIDERS: Final = ("azure", "aws", "google", "scaleway", "fireworks")


def rows(first: int, count: int, *, step: int, version: int = 0, every: int = 1) -> str:
    """A SELECT of rows first..first+count, by column name.

    Args:
        first: Number of the first row.
        count: How many.
        step: Milliseconds between two events.
        version: Of the row: 0 as first written; others are written later, with another tier, provider and cost.
        every: Only every `every`-th row.
    """
    return f"""
WITH
    cityHash64(number) AS h,
    toInt64({START} + number * {step} + h % {step}) AS ms,
    lower(leftPad(hex(ms), 16, '0')) AS clock,
    lower(hex(h)) || lower(hex(cityHash64(number, 1))) AS noise,
    (h % 100003) / 100003 AS dice,
    toUInt32(50000 * pow((cityHash64(number, 2) % 100003) / 100003, 2)) AS who,
    {_pick("(who * 7 + version) % 6", TIERS)} AS some_tier,
    {_pick("(h + version) % 5", PROVIDERS)} AS some_provider,
    {_pick(f"toUInt32({len(MODELS)} * pow(dice, 3))", MODELS)} AS some_model,
    toUInt64(20 + cityHash64(number, 3) % 4000) AS prompt,
    toUInt64(1 + cityHash64(number, 4) % 900) AS completion,
    {version} AS version
SELECT
    substring(clock, 5, 8) || '-' || substring(clock, 13, 4) || '-7' || substring(noise, 1, 3) || '-8'
        || substring(noise, 4, 3) || '-' || substring(noise, 7, 12) AS event_id,
    'text_generation' AS event_type,
    fromUnixTimestamp64Milli(ms, 'UTC') AS occurred_at,
    fromUnixTimestamp64Milli(ms - toInt64(duration), 'UTC') AS timestamp,
    occurred_at AS end_time,
    some_model AS model,
    some_model || '-2026-08-01' AS model_used,
    some_provider AS provider,
    'user-' || toString(who) AS user,
    'name-' || toString(who) AS username,
    some_tier AS tier,
    'lookup' AS tier_source,
    if(h % 37 = 0, 'error', 'success') AS response_status,
    toFloat64(100 + h % 20000) AS duration,
    'req-' || toString(h) AS request_id,
    'priced' AS cost_status,
    'ok' AS usage_status,
    toDecimal128((prompt * 2 + completion * 8) * (1 + {version}) / 1000000000, 12) AS cost,
    event_id AS id,
    request_id AS message_id,
    request_id AS response_id,
    prompt AS prompt_text_tokens,
    completion AS completion_text_tokens,
    fromUnixTimestamp64Micro((ms + 2000 + 86400000 * {version}) * 1000, 'UTC') AS enriched_at
FROM numbers({first}, {count})
WHERE number % {every} = 0
"""


def _pick(index: str, names: tuple[str, ...]) -> str:
    listed = ", ".join(f"'{name}'" for name in names)
    return f"[{listed}][1 + least({index}, {len(names) - 1})]"


def columns() -> list[str]:
    """The columns of rows() that birdfeed's table has; the others take their defaults."""
    return [
        "event_id", "event_type", "occurred_at", "timestamp", "end_time", "model", "model_used", "provider", "user",
        "username", "tier", "tier_source", "response_status", "duration", "request_id", "cost_status", "usage_status",
        "cost", "response_id", "prompt_text_tokens", "completion_text_tokens", "enriched_at",
    ]  # fmt: skip
