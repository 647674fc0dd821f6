"""The meter table: everything in a usage that can be billed, and every spelling that it is read from. Data only.

A new meter is one line of METERS; a new spelling is one word in it. This table drives the normaliser, the token classes
and counters, the rows and their columns, the check of price books, receipts, `prices explain` and the reference page.

A spelling is a path in snake_case; camelCase is converted before the look-up, and OpenTelemetry's `gen_ai.usage.` is
removed. A name inside details is written with the role of the details (see CONTAINERS):
`prompt.cached_tokens` is `prompt_tokens_details.cached_tokens`, `inputTokenDetails.cachedTokens`, and so on. The first
spelling that is present and not null is used, so details are listed before flat spellings.

A mark before a spelling says how it relates to its total. Without a mark it is part of the total.
    +  it is not in the total (cache counts: only if the prompt's total is called input, as Anthropic's is)
    ^  it is not in the total only if that is called output, as Langfuse's is; it is part of output_tokens (pydantic-ai)
    ?  it depends on the reporter; `total_tokens` decides first, then the shape, then the provider
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["prompt", "completion", "counter"]
#: The cost_status of a row in which a class is priced at its parent's rate.
StandIn: TypeAlias = Literal["priced", "estimated", "partial"]


class Meter(NamedTuple):
    """One kind of count that is billed.

    Attributes:
        name: The token class or counter; in a receipt, also the name of its rate.
        kind: "prompt" and "completion" are disjoint token classes that sum to the totals; "counter" is anything else.
        column: Its column in Tinybird.
        per: Its rate is in USD per this many.
        parent: The class whose rate is used if this one has no rate.
        stand_in: The status of a row in which that happens, or in which a counter without a parent has no rate;
            `book` says whether price books allow it, too.
        genai: genai-prices' keys for its price; the first that exists is used.
        discounted: Whether multipliers (service tier, geo) apply.
        spellings: Where it is read from; see the module's docstring.
    """

    name: str
    kind: Kind
    column: str
    per: int
    parent: str | None
    stand_in: StandIn
    book: bool
    genai: tuple[str, ...]
    discounted: bool
    spellings: tuple[str, ...]


_M: Final = 1_000_000


def _prompt(
    name: str, parent: str | None, stand_in: StandIn, book: bool, genai: str, spellings: str, kind: Kind = "prompt"
) -> Meter:
    keys = tuple(genai.split())
    return Meter(name, kind, f"{name}_tokens", _M, parent, stand_in, book, keys, True, _words(spellings))


_completion: Final = partial(_prompt, kind="completion")


def _counter(name: str, per: int, parent: str | None, genai: str, discounted: bool, spellings: str) -> Meter:
    # Without a rate, requests are free, and other counters are missing from the cost ("partial"). At the parent's rate
    # the cost is "estimated", except for search queries, which are Perplexity's name for web searches.
    in_place: StandIn = "priced" if name == "search_queries" else "estimated"
    stand_in: StandIn = "priced" if name == "requests" else in_place if parent else "partial"
    book, keys = name == "search_queries", tuple(genai.split())
    return Meter(name, "counter", name, per, parent, stand_in, book, keys, discounted, _words(spellings))


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


#: Classes are subtracted from their total in this order; prompt_text and completion_text are what remains.
METERS: Final[tuple[Meter, ...]] = (
    _prompt("prompt_text", None, "priced", True, "input_mtok", ""),
    _prompt(
        *("prompt_cached", "prompt_text", "estimated", True, "cache_read_mtok"),
        """prompt.cached_tokens prompt.cache_read_tokens prompt.cache_read prompt.cached
        prompt.cache_read_input_tokens prompt.flex_cache_read prompt.priority_cache_read
        +cache_read_input_tokens +cache_read_input_token_count +input_cached_tokens +input_cache_read
        ?cached_input_tokens cached_tokens cache_read_tokens cached_prompt_tokens prompt_cache_hit_tokens
        cached_prompt_text_tokens cached_content_token_count total_cached_tokens num_cached_tokens
        cache_read.input_tokens cached.tokens""",
    ),
    _prompt(
        *("prompt_cached_audio", "prompt_cached", "estimated", True, "cache_audio_read_mtok"),
        "cached.audio_tokens cached.audio cache_audio_read_tokens",
    ),
    _prompt(
        *("prompt_cached_image", "prompt_cached", "estimated", True, "cache_image_read_mtok"),
        "cached.image_tokens cached.image cache_image_read_tokens",
    ),
    _prompt(
        *("prompt_cache_write", "prompt_text", "estimated", True, "cache_write_5m_mtok cache_write_mtok"),
        """prompt.cache_write_tokens prompt.cache_creation_tokens prompt.cache_creation prompt.cache_write
        prompt.cache_creation_input_tokens
        +cache_creation_input_tokens +cache_write_input_tokens +cache_write_input_token_count
        +cache_creation_input_token_count +input_cache_creation +input_cache_write
        cache_write_tokens cache_creation_tokens cache_creation.input_tokens cache_write.input_tokens""",
    ),
    _prompt(
        *("prompt_cache_write_1h", "prompt_cache_write", "partial", True, "cache_write_1h_mtok"),
        """+cache_write.ephemeral_1h_input_tokens +cache_write.1h prompt.ephemeral_1h_input_tokens
        +input_cache_creation_1h cache_write_1h_tokens""",
    ),
    _prompt(
        *("prompt_audio", "prompt_text", "estimated", False, "input_audio_mtok"),
        """prompt.audio_tokens prompt.audio audio_prompt_tokens input_audio_tokens prompt_audio_tokens""",
    ),
    _prompt(
        *("prompt_image", "prompt_text", "estimated", False, "input_image_mtok"),
        "prompt.image_tokens prompt.image image_prompt_tokens input_image_tokens prompt_image_tokens",
    ),
    _completion("completion_text", None, "priced", True, "output_mtok", ""),
    _completion(
        *("completion_audio", "completion_text", "estimated", False, "output_audio_mtok"),
        """completion.audio_tokens completion.audio audio_completion_tokens output_audio_tokens
        completion_audio_tokens""",
    ),
    _completion(
        *("completion_image", "completion_text", "estimated", False, "output_image_mtok"),
        """completion.image_tokens completion.image image_completion_tokens output_image_tokens
        completion_image_tokens""",
    ),
    _completion(
        *("completion_reasoning", "completion_text", "priced", True, "output_reasoning_mtok"),
        """?completion.reasoning_tokens completion.thinking_tokens completion.reasoning completion.flex_reasoning
        completion.priority_reasoning +thoughts_token_count +total_thought_tokens ?reasoning_tokens
        ^output_reasoning_tokens ^output_reasoning reasoning.output_tokens thinking_tokens""",
    ),
    _counter("citation_tokens", _M, "completion_text", "output_citation_mtok", True, "citation_tokens"),
    _counter(
        *("web_searches", 1_000, None, "web_searches_kcount", False),
        """tools.web_search_requests prompt.web_search_requests web_search_requests tools.web_search
        tool_calls_details.search_web.invocation""",
    ),
    _counter("search_queries", 1_000, "web_searches", "", False, "num_search_queries search_queries"),
    _counter("search_units", 1_000, None, "rerank_searches_kcount", False, "billed.search_units search_units"),
    _counter("requests", 1_000, None, "requests_kcount", False, "requests"),
    _counter(
        *("pages", 1_000, None, "input_document_kpages", True),
        "pages_processed num_pages pages billed.pages",
    ),
    _counter("characters", _M, None, "input_mchars", True, "characters prompt.character_count input_characters"),
    _counter(
        *("seconds", 3_600, None, "input_audio_hours audio_hours", True),
        "seconds prompt_audio_seconds audio_seconds billable_audio_seconds duration_seconds",
    ),
)

#: The totals that the classes are parts of; and tool_prompt, which is added to the prompt.
TOTALS: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": _words(
        """prompt_tokens input_tokens prompt_token_count total_input_tokens input_token_count input_text_token_count
        prompt_eval_count billed.input_tokens prompt.total request_tokens input
        x_amzn_bedrock_input_token_count"""
    ),
    "completion": _words(
        """completion_tokens output_tokens candidates_token_count response_token_count total_output_tokens
        output_token_count generation_token_count results.token_count eval_count billed.output_tokens
        completion.total response_tokens output x_amzn_bedrock_output_token_count"""
    ),
    "total": _words("total_tokens total_token_count total"),
    "tool_prompt": _words("tool_use_prompt_token_count total_tool_use_tokens connector_tokens"),
    "tool_audio": _words("tool.audio_tokens"),
    "tool_image": _words("tool.image_tokens"),
    "completion_text_detail": _words("completion.text_tokens completion.text"),
    "cache_write_5m": _words(
        """+cache_write.ephemeral_5m_input_tokens +cache_write.5m prompt.ephemeral_5m_input_tokens
        +input_cache_creation_5m cache_write_5m_tokens"""
    ),
    "cache_hit": _words("prompt_cache_hit_tokens"),
    "cache_miss": _words("prompt_cache_miss_tokens"),
}

#: Role of details → their names; counts under an earlier name win.
CONTAINERS: Final[Mapping[str, tuple[str, ...]]] = {
    "prompt": _words(
        """prompt_tokens_details input_tokens_details input_token_details prompt_token_details
        input_tokens_by_modality input_tokens"""
    ),
    "completion": _words(
        """completion_tokens_details output_tokens_details output_token_details completion_token_details
        candidates_tokens_details response_tokens_details output_tokens_by_modality output_tokens"""
    ),
    "tool": _words("tool_use_prompt_tokens_details tool_use_tokens_by_modality"),
    "cached": _words("cached_tokens_details cache_tokens_details cached_tokens_by_modality"),
    "cache_write": _words("cache_creation cache_creation_token_details cache_creation_tokens_details cache_details"),
    "tools": _words("server_tool_use connectors"),
    "billed": _words("billed_units"),
}

#: The last part of the paths of numbers that describe a request and are not billed.
INFORMATIONAL: Final = frozenset(
    _words(
        """text_tokens text video_tokens video document_tokens document no_cache_tokens no_cache
        accepted_prediction_tokens rejected_prediction_tokens flex priority prompt_text_tokens
        cost is_byok cost_in_usd_ticks web_fetch_requests tool_search_requests tool_calls tool_use_tokens
        image_count image_tokens_count cache_creation_requests num_server_side_tools_used images_generated
        input_audio_count num_requests n created created_at index unspecified_tokens
        successful_requests context_window max_input_tokens max_output_tokens max_tokens doc_size_bytes num_turns
        num_generated_tokens total_cost_usd cost_usd"""
    )
)
#: Endings of the last part of such paths.
INFORMATIONAL_ENDINGS: Final = ("_duration", "_latency", "_time", "_cost", "_ms", "_at", "_per_second")
#: Objects inside a usage to ignore: what they hold is repeated elsewhere, or is not about billing.
INFORMATIONAL_OBJECTS: Final = frozenset(
    _words(
        """tokens details raw cost cost_details context iterations usage_breakdown latency metadata message
        request_usage_entries"""
    )
)

#: Kind of modifier → the names in a usage whose words change the price.
MODIFIERS: Final[Mapping[str, tuple[str, ...]]] = {
    # LangChain counts a tier's tokens under the tier's name: {"priority": 600, "priority_cache_read": 400}.
    "service_tier": _words(
        """service_tier traffic_type processing service_tier.type prompt.priority prompt.flex completion.priority
        completion.flex"""
    ),
    "speed": _words("speed"),
    "inference_geo": _words("inference_geo"),
    "search_context_size": _words("search_context_size"),
}
#: Words that mean no modifier.
PLAIN_MODIFIERS: Final = frozenset(
    ("", "auto", "standard", "standard_only", "on_demand", "normal", "global", "not_available", "none")
)
#: The tier of prepaid capacity: the cost of its requests is estimated at the list price.
PROVISIONED: Final = "provisioned_throughput"
#: Spelling of a modifier → the modifier it means.
SAME_MODIFIER: Final[Mapping[str, str]] = {
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
    "provisioned": PROVISIONED,
    "ptu": PROVISIONED,
    "batches": "batch",
}
#: Names whose words are kept in usage_raw, besides numbers.
KEPT_WORDS: Final = frozenset(
    (
        *("modality", "service_tier", "serviceTier", "speed", "inference_geo", "inferenceGeo", "traffic_type"),
        *("trafficType", "search_context_size", "searchContextSize", "ttl", "type", "processing"),
    )
)

#: Names under which a response, or a wrapper around it, holds the usage.
WRAPPERS: Final = _words(
    """usage usage_metadata token_usage usage_info response x_groq meta result message llm_output response_metadata
    amazon_bedrock_invocation_metrics metrics provider_metadata body"""
)

#: Provider family → path of the cost that the provider itself reports → USD per unit of it.
REPORTED_COSTS: Final[Mapping[str, Mapping[str, Decimal]]] = {
    "openrouter": {"cost": Decimal(1)},
    "perplexity": {"cost.total_cost": Decimal(1)},
    "xai": {"cost_in_usd_ticks": Decimal("1e-10")},
}

TOKEN_CLASSES: Final = tuple(meter.name for meter in METERS if meter.kind != "counter")
PROMPT_CLASSES: Final = tuple(meter.name for meter in METERS if meter.kind == "prompt")
COMPLETION_CLASSES: Final = tuple(meter.name for meter in METERS if meter.kind == "completion")
COUNTERS: Final = tuple(meter.name for meter in METERS if meter.kind == "counter")
#: Counters that may have a fraction; and the columns' defaults of counters for which that isn't 0.
FRACTIONS: Final = frozenset(("seconds",))
DEFAULTS: Final[Mapping[str, int]] = {"requests": 1}
BY_NAME: Final[Mapping[str, Meter]] = {meter.name: meter for meter in METERS}
