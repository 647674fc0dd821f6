"""Turn the usage that an SDK reports into disjoint token classes that sum to the totals, and counters.

    {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 400}}
    → prompt_text 600, prompt_cached 400, completion_text 10; status "ok"

The meter table (birdfeed_schemas.tables.meters) says what is read and how it nests; this module does the arithmetic.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Final

from birdfeed_schemas.enrichment import NOTHING, Tokens, Usage, UsageStatus
from birdfeed_schemas.events import Event
from birdfeed_schemas.tables.meters import FRACTIONS, REPORTED_COSTS
from birdfeed_schemas.tables.providers import family_of

from birdfeed_worker.pricing.names import provider_of
from birdfeed_worker.pricing.price.money import as_stored
from birdfeed_worker.pricing.usage.formats import (
    MAX_DEPTH,
    MAX_TOKENS,
    NotACountError,
    inner_usage,
    is_positive,
    read_amount,
    read_count,
    tidy,
)
from birdfeed_worker.pricing.usage.known import KnownUsage
from birdfeed_worker.pricing.usage.modifiers import plain_modifier
from birdfeed_worker.pricing.usage.plan import Plan, Table, UntidyError, value_at

MISSING: Final = Usage(status="missing")
INVALID: Final = Usage(status="invalid")
STREAM_WITHOUT_USAGE: Final = Usage(status="stream_without_usage")

TABLE: Final = Table()
#: Number of counts that a plan reads.
_SLOTS: Final = len(TABLE.slots)
_CACHED: Final = TABLE.slots["prompt_cached"]
_WRITE: Final = TABLE.slots["prompt_cache_write"]
_WRITE_1H: Final = TABLE.slots["prompt_cache_write_1h"]
_WRITE_5M: Final = TABLE.slots["cache_write_5m"]
_REASONING: Final = TABLE.slots["completion_reasoning"]
_PROMPT: Final = TABLE.slots["prompt"]
_TOTAL: Final = TABLE.slots["total"]
#: Make the two tuples without their own constructors, which take as long as all the arithmetic.
_tokens: Final = partial(tuple.__new__, Tokens)
_usage: Final = partial(tuple.__new__, Usage)
#: The provider that counts reasoning separately from the completion.
BESIDE_COMPLETION: Final = "perplexity"
#: The providers whose cached tokens, passed on by the Vercel AI SDK 5, are not part of the prompt.
_CACHE_BESIDE: Final = frozenset(("anthropic", "aws"))


def usage_of(event: Event, table: Table = TABLE) -> Usage:
    """The normalised usage of an event; see normalise_usage. A successful stream without a usage has its own status:
    its tokens were billed, but their count was not requested."""
    raw = event.usage
    if raw.__class__ is KnownUsage:
        return _of_known(raw, provider_of(event.provider, event.model_used or event.model))
    if raw is None or not raw:
        if raw is None or isinstance(raw, Mapping):
            streamed = getattr(event, "stream", False) and not event.failed
            return STREAM_WITHOUT_USAGE if streamed else MISSING
        return INVALID
    return normalise_usage(raw, provider_of(event.provider, event.model_used or event.model), table)


def _of_known(raw: KnownUsage, provider: str) -> Usage:
    plain = raw.plain
    if plain is not None and (provider != BESIDE_COMPLETION or not plain.tokens[-1]):
        return plain
    shape = raw.shape
    try:
        return _usage_by(raw.values, shape.plan, raw.counters, shape.modifiers, None, raw.is_unread, provider)
    except NotACountError:
        return INVALID


def normalise_usage(raw: object, provider: str = "", table: Table = TABLE) -> Usage:
    """The usage of one event by class, from whatever its SDK reported.

    Args:
        raw: Any JSON value: a usage object, a response that contains one, or None.
        provider: The provider (a family, or any spelling), for shapes whose meaning depends on the provider.

    Returns:
        Disjoint counts that sum to the totals. The status is "missing" for None and {}; "invalid", with all counts 0,
        if a count is negative, fractional, beyond 2**63 - 1 or text other than digits, if `raw` is not an object, or
        if nothing in it is read; "incomplete" if a positive number is not read, or total_tokens is larger than what
        was read; "inconsistent" if a part was larger than what was left of its total; else "ok". Never raises.
    """
    if raw is None or raw == {}:
        return MISSING
    if not isinstance(raw, Mapping):
        return INVALID
    try:
        plain: Mapping[str, Any] = raw
        try:
            plan = table.plan(plain)
        except UntidyError:
            plain = tidy(raw)
            plan = table.plan(plain)
        outer: Mapping[str, str] = NOTHING
        if not plan.known:
            plain, plan, outer = unwrapped(plain, plan, table)
        return _read(plain, plan, outer, provider)
    except NotACountError:
        return INVALID


def unwrapped(raw: Mapping[str, Any], plan: Plan, table: Table) -> tuple[Mapping[str, Any], Plan, Mapping[str, str]]:
    """The usage inside a response, its plan, and the service tier and speed that the response names."""
    outer: dict[str, str] = {}
    for _ in range(MAX_DEPTH):
        inner = inner_usage(raw)
        if plan.known or inner is None:
            break
        for name, keys in plan.modifiers:
            _add_modifier(outer, name, keys, value_at(raw, keys))
        raw, plan = inner, table.plan(inner)
    return raw, plan, outer


def _read(raw: Mapping[str, Any], plan: Plan, outer: Mapping[str, str], provider: str) -> Usage:
    if plan.invalid:
        raise NotACountError
    values = [0] * _SLOTS
    for slot, key in plan.flat:
        value = raw[key]
        values[slot] = value if type(value) is int and 0 <= value <= MAX_TOKENS else read_count(value) or 0
    for slot, key, inner in plan.nested:
        value = raw[key][inner]
        values[slot] = value if type(value) is int and 0 <= value <= MAX_TOKENS else read_count(value) or 0
    for slot, keys in plan.deep:
        values[slot] = read_count(value_at(raw, keys)) or 0
    counters = _counters(raw, plan.counters) if plan.counters else NOTHING
    modifiers = modifiers_in(raw, plan, outer) if plan.modifiers or outer else NOTHING
    reported, unread = None, False
    if plan.costs:
        reported, cost_is_read = _reported(raw, plan.costs, family_of(provider))
        unread = not cost_is_read
    for keys in plan.unread:
        if is_positive(value_at(raw, keys)):
            unread = True
    return _usage_by(values, plan, counters, modifiers, reported, unread, provider)


def _usage_by(
    values: Sequence[int],
    plan: Plan,
    counters: Mapping[str, int | Decimal],
    modifiers: Mapping[str, str],
    reported: Decimal | None,
    unread: bool,
    provider: str,
) -> Usage:
    """The usage, from the values that were read."""
    total = values[_TOTAL]
    if not plan.says and not counters:
        # If all known counts are null or absent, nothing was used; anything else is a usage that can't be read.
        if total or unread or reported is not None or not plan.known:
            return Usage("invalid", modifiers=modifiers, reported=reported)
        return Usage("ok", modifiers=modifiers)
    status, tokens, unaccounted, read = _classes(values, plan, counters, provider)
    if unread or total > read:
        status = "incomplete"
    return _usage((status, tokens, counters, unaccounted, modifiers, reported))


def _classes(
    values: Sequence[int], plan: Plan, counters: Mapping[str, Any], provider: str
) -> tuple[UsageStatus, Tokens, int, int]:
    """The classes, capped so that they sum to the totals; the completion that no detail calls text; and the sum."""
    (
        _, cached, cached_audio, cached_image, write, write_1h, audio, image, _, out_audio, out_image, reasoning,
        prompt, completion, total, tool, tool_audio, tool_image, text_detail, write_5m, hit, miss,
    ) = values  # fmt: skip
    marks = plan.marks
    write_mark = marks[_WRITE]
    if not plan.is_ordinary:
        if write_5m + write_1h > write:
            write, write_mark = write_5m + write_1h, marks[_WRITE_1H] or marks[_WRITE_5M]
        if not plan.has_prompt:
            prompt = hit + miss
        prompt += tool
        audio, image = audio + tool_audio, image + tool_image
    cache = cached + write
    if cache or reasoning:
        prompt, completion = _nested(
            prompt, completion, total if plan.has_total else None, cached, write, reasoning,
            (marks[_PROMPT], marks[_CACHED], write_mark, marks[_REASONING]), counters, provider,
        )  # fmt: skip
    if prompt > MAX_TOKENS or completion > MAX_TOKENS:
        raise NotACountError

    # Cached audio and images are in both counts: subtract them from one.
    if cached_audio or cached_image:
        if not cached:
            cached_audio = cached_image = 0
        audio, image = max(0, audio - cached_audio), max(0, image - cached_image)

    # Each class gets at most what the previous ones left of the total; text gets the remainder.
    status: UsageStatus = "ok"
    prompt_text = prompt - cache - audio - image
    if prompt_text < 0 or cached_audio + cached_image > cached or write_1h > write:
        status = "inconsistent"
        cached = min(cached, prompt)
        cached_audio = min(cached_audio, cached)
        cached_image = min(cached_image, cached - cached_audio)
        write = min(write, prompt - cached)
        write_1h = min(write_1h, write)
        audio = min(audio, prompt - cached - write)
        image = min(image, prompt - cached - write - audio)
        prompt_text = prompt - cached - write - audio - image
    completion_text = completion - out_audio - out_image - reasoning
    if completion_text < 0:
        status, completion_text = "inconsistent", 0
        out_audio = min(out_audio, completion)
        out_image = min(out_image, completion - out_audio)
        reasoning = min(reasoning, completion - out_audio - out_image)
    tokens = _tokens((
        prompt_text, cached - cached_audio - cached_image, cached_audio, cached_image, write - write_1h, write_1h,
        audio, image, completion_text, out_audio, out_image, reasoning,
    ))  # fmt: skip
    unaccounted = completion_text - text_detail if completion_text > text_detail else 0
    return status, tokens, unaccounted, prompt + completion


def _nested(
    prompt: int,
    completion: int,
    total: int | None,
    cached: int,
    write: int,
    reasoning: int,
    marks: tuple[str, str, str, str],
    counters: Mapping[str, Any],
    provider: str,
) -> tuple[int, int]:
    """The totals, including parts that they don't contain. `total` decides that, else the shape and the provider."""
    prompt_mark, cached_mark, write_mark, reasoning_mark = marks
    is_input = prompt_mark == "i"
    beside = 0
    fixed = cached_mark == "?" and family_of(provider) in _CACHE_BESIDE
    if fixed:
        beside = cached + write
    elif is_input:
        beside = (cached if cached_mark == "+" else 0) + (write if write_mark == "+" else 0)
    reasoning_beside = reasoning_mark == "+"
    perplexity = False
    if reasoning and reasoning_mark == "?":
        family = family_of(provider)
        perplexity = "citation_tokens" in counters or "search_queries" in counters or family == BESIDE_COMPLETION
        reasoning_beside = perplexity or (family == "xai" and not is_input)
    if total is not None and not fixed and not perplexity:
        usual = prompt + beside + completion
        if total == (usual + reasoning if reasoning_beside else usual) and (beside or cached + write <= prompt):
            return prompt + beside, completion + reasoning if reasoning_beside else completion
        beside, reasoning_beside = _by_total(
            total, prompt, completion, cached + write, reasoning, beside, reasoning_beside
        )
    return prompt + beside, completion + reasoning if reasoning_beside else completion


def _by_total(
    total: int, prompt: int, completion: int, cache: int, reasoning: int, beside: int, reasoning_beside: bool
) -> tuple[int, bool]:
    """Which of cache and reasoning the totals don't contain, so that the sum is total_tokens; as given if none fits."""
    options = (
        (beside, reasoning_beside),
        (beside, not reasoning_beside),
        (0 if beside else cache, reasoning_beside),
        (0 if beside else cache, not reasoning_beside),
    )
    for extra, is_beside in options:
        if not extra and cache > prompt and cache > 0 and beside:
            continue  # the cache is larger than the prompt: it can't be part of it
        if not is_beside and reasoning > completion and reasoning_beside:
            continue
        if total == prompt + extra + completion + (reasoning if is_beside else 0):
            return extra, is_beside
    return beside, reasoning_beside


def _counters(raw: Mapping[str, Any], counters: tuple[tuple[str, tuple[str, ...]], ...]) -> Mapping[str, int | Decimal]:
    found: dict[str, int | Decimal] = {}
    for name, keys in counters:
        value = value_at(raw, keys)
        number = as_stored(read_amount(value) or 0) if name in FRACTIONS else read_count(value)
        if number:
            found[name] = number
    return found or NOTHING


def modifiers_in(raw: Mapping[str, Any], plan: Plan, outer: Mapping[str, str] = NOTHING) -> Mapping[str, str]:
    """The price modifiers in the words of a usage."""
    found: dict[str, str] = {}
    for name, keys in plan.modifiers:
        _add_modifier(found, name, keys, value_at(raw, keys))
    return {**outer, **found}


def _add_modifier(found: dict[str, str], name: str, keys: tuple[str, ...], value: object) -> None:
    if value is not None and not isinstance(value, bool):
        # A number is under the modifier's own name.
        word = plain_modifier(value if isinstance(value, str) else keys[-1] if len(keys) > 1 else "")
        if word and name not in found:
            found[name] = word


def _reported(raw: Mapping[str, Any], costs: Mapping[str, tuple[str, ...]], family: str) -> tuple[Decimal | None, bool]:
    """The cost in USD that the provider reports, and whether all of it could be read."""
    for path, per in REPORTED_COSTS.get(family, {}).items():
        if path not in costs:
            continue
        value = value_at(raw, costs[path])
        if value is None:
            continue
        try:
            amount = read_amount(value)
            upstream = Decimal(0)
            if "is_byok" in costs and value_at(raw, costs["is_byok"]) is True:
                keys = costs.get("cost_details.upstream_inference_cost")
                upstream = (read_amount(value_at(raw, keys)) if keys else None) or Decimal(0)
        except NotACountError:
            return None, False
        return (None, False) if amount is None else (amount * per + upstream, True)
    return None, True
