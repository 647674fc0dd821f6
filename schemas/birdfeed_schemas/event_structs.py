"""What may leave a handler's process: one msgspec struct per event type, in addition to the names in fields.py.

The producer converts each event into its struct and discards the result: an event that converts has no field, nesting
or length that is not allowed here, so it may be written unchanged. An event that does not is filtered field by field,
with the same types. The models in events.py define which events are *valid*; these structs define what may be *sent*. A
test compares the names with fields.py.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from keyword import iskeyword
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Meta, Struct, field

#: Characters of a text field at most; rows store as many.
MAX_TEXT: Final = 512
#: Entries of one level of a usage at most; the largest known has 40.
MAX_USAGE_ENTRIES: Final = 128

Text: TypeAlias = Annotated[str, Meta(max_length=MAX_TEXT)]
Number: TypeAlias = int | float
#: The types a number may have: SDKs and forms send some as text.
Count: TypeAlias = int | float | Annotated[str, Meta(max_length=40, pattern=r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$")]
#: ISO 8601 text, or epoch seconds or milliseconds. (The type accepts a datetime, too, but the producer turns it into
#: text first: orjson would write a naive one, which is local time, without a zone.)
Time: TypeAlias = int | float | datetime
Identifier: TypeAlias = int | Text
#: The pattern of names inside a usage, in every SDK; prose contains spaces.
USAGE_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
#: Names inside a usage whose value may be a short word; compared in lower case, without `_` and `-`.
USAGE_ENUMERATIONS: Final = frozenset(
    {"modality", "servicetier", "speed", "inferencegeo", "traffictype", "searchcontextsize", "ttl", "type"}
)
#: The pattern of such words.
USAGE_WORD: Final = r"[A-Za-z0-9_.-]{1,32}"

Severity: TypeAlias = Literal["safe", "low", "medium", "high", "none", "very_low", "negligible"]
#: Other words that a moderation result may hold, in any case.
MODERATION_WORDS: Final = frozenset({*get_args(Severity), "true", "false", "unspecified", "annotate", "block", "allow"})


class Verdict(Struct, forbid_unknown_fields=True, gc=False):
    """A moderation's result for one category."""

    filtered: bool | None = None
    severity: Severity | None = None
    detected: bool | None = None


class ModerationData(Struct, forbid_unknown_fields=True, gc=False):
    """A moderation result by category, as Azure OpenAI returns it; others are filtered by MODERATION_NAMES."""

    hate: Verdict | bool | None = None
    self_harm: Verdict | bool | None = None
    sexual: Verdict | bool | None = None
    violence: Verdict | bool | None = None
    jailbreak: Verdict | bool | None = None
    profanity: Verdict | bool | None = None
    protected_material_text: Verdict | bool | None = None
    protected_material_code: Verdict | bool | None = None
    indirect_attack: Verdict | bool | None = None
    flagged: bool | None = None


#: Every name that a moderation result may hold, at any depth; "-" and "/" count as "_".
MODERATION_NAMES: Final = frozenset(
    {
        *ModerationData.__struct_fields__,
        *Verdict.__struct_fields__,
        *("blocked", "score"),
        *("prompt", "completion", "input", "output", "result", "results", "categories", "category_scores", "error"),
        *("prompt_filter_results", "content_filter_results", "content_filter_result", "prompt_index", "index"),
        *("hate_threatening", "harassment", "harassment_threatening", "illicit", "illicit_violent"),
        *("dangerous_content",),
        *("self_harm_intent", "self_harm_instructions", "sexual_minors", "sexually_explicit", "violence_graphic"),
        *("toxicity", "insult", "threat", "identity_attack", "custom_blocklists", "probability", "confidence"),
        *("probability_score", "severity_score", "reason", "action"),
    }
)
#: Levels of a moderation result at most; rows store as many.
MAX_MODERATION_DEPTH: Final = 4


Amount: TypeAlias = int | float | None
#: Service tiers that usages name; other words are checked against USAGE_WORD in the slow path.
ServiceTier: TypeAlias = Literal["auto", "default", "standard", "standard_only", "flex", "priority", "scale", "batch"]


class ModalityCount(Struct, forbid_unknown_fields=True, gc=False):
    """Gemini's count of one modality's tokens."""

    modality: Literal["TEXT", "IMAGE", "AUDIO", "VIDEO", "DOCUMENT", "MODALITY_UNSPECIFIED"] | None = None
    token_count: Amount = field(name="tokenCount", default=None)


ModalityCounts: TypeAlias = Annotated[list[ModalityCount], Meta(max_length=MAX_USAGE_ENTRIES)]


class InputDetails(Struct, forbid_unknown_fields=True, gc=False):
    """The parts of a usage's input tokens, under OpenAI's names."""

    cached_tokens: Amount = None
    audio_tokens: Amount = None
    text_tokens: Amount = None
    image_tokens: Amount = None
    cache_write_tokens: Amount = None


class OutputDetails(Struct, forbid_unknown_fields=True, gc=False):
    """The parts of a usage's output tokens, under OpenAI's names."""

    reasoning_tokens: Amount = None
    audio_tokens: Amount = None
    text_tokens: Amount = None
    image_tokens: Amount = None
    accepted_prediction_tokens: Amount = None
    rejected_prediction_tokens: Amount = None


class CacheCreation(Struct, forbid_unknown_fields=True, gc=False):
    """Anthropic's counts of tokens written to a cache."""

    ephemeral_5m_input_tokens: Amount = None
    ephemeral_1h_input_tokens: Amount = None


class ServerToolUse(Struct, forbid_unknown_fields=True, gc=False):
    """Anthropic's counts of server tool requests."""

    web_search_requests: Amount = None
    web_fetch_requests: Amount = None


class UsageData(Struct, forbid_unknown_fields=True, gc=False):
    """The usages that pass in one step: OpenAI's, Anthropic's and Gemini's. Others are checked name by name.

    The structs here are small, because the time to create one grows with its fields.
    """

    prompt_tokens: Amount = None
    completion_tokens: Amount = None
    total_tokens: Amount = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    input_tokens: Amount = None
    input_tokens_details: InputDetails | None = None
    output_tokens: Amount = None
    output_tokens_details: OutputDetails | None = None
    cache_creation_input_tokens: Amount = None
    cache_read_input_tokens: Amount = None
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerToolUse | None = None
    service_tier: ServiceTier | None = None
    prompt_token_count: Amount = field(name="promptTokenCount", default=None)
    candidates_token_count: Amount = field(name="candidatesTokenCount", default=None)
    total_token_count: Amount = field(name="totalTokenCount", default=None)
    thoughts_token_count: Amount = field(name="thoughtsTokenCount", default=None)
    cached_content_token_count: Amount = field(name="cachedContentTokenCount", default=None)
    tool_use_prompt_token_count: Amount = field(name="toolUsePromptTokenCount", default=None)
    prompt_tokens_by_modality: ModalityCounts | None = field(name="promptTokensDetails", default=None)
    candidates_tokens_by_modality: ModalityCounts | None = field(name="candidatesTokensDetails", default=None)
    cache_tokens_by_modality: ModalityCounts | None = field(name="cacheTokensDetails", default=None)


class EventData(Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The fields that every event type may send, besides `usage`. All are optional: a missing field reveals nothing.

    msgspec looks for a name from where it found the one before, so the fields are in the order in which handlers write
    them, and the rare ones come last. `error` always takes the slow path, because its message may quote a prompt.
    """

    model: Text | None = None
    model_used: Text | None = None
    provider: Text | None = None
    user: Identifier | None = None
    username: Identifier | None = None
    tier: Text | None = None
    start_time: Time | None = None
    end_time: Time | None = None
    duration: Number | None = None
    status: Literal["success", "error"] | None = None
    request_id: Identifier | None = None
    environment: Text | None = None
    referrer: Text | None = None
    organization: Identifier | None = None
    project: Identifier | None = None
    error: None = None
    cache_hit: bool | None = None
    cache_key: Identifier | None = None
    service_tier: Text | None = None
    cost: Count | None = None
    trace_id: Identifier | None = None
    span_id: Identifier | None = None
    sample_rate: Number | None = None


class TextGenerationData(EventData, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The fields that a `text_generation` event may send."""

    stream: bool | None = None
    response_id: Identifier | None = None
    usage: UsageData | None = None
    moderation: ModerationData | None = None
    chat_id: Identifier | None = None


class ImageGenerationData(EventData, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The fields that an `image_generation` event may send."""

    image_size: Text | None = None
    num_images: Count | None = None
    quality: Text | None = None
    has_input_image: bool | None = None
    usage: UsageData | None = None
    video_seconds: Count | None = None
    audio_seconds: Count | None = None
    characters: Count | None = None


#: Event type → its struct, for the types that birdfeed ships.
STRUCTS: Final[Mapping[str, type[EventData]]] = {
    "text_generation": TextGenerationData,
    "image_generation": ImageGenerationData,
}
#: The type of each field in the structs.
FIELD_TYPES: Final[Mapping[str, Any]] = {
    known.name: known.type for struct in STRUCTS.values() for known in msgspec.structs.fields(struct)
}
#: The type of fields that no struct lists: allowed by the operator, or of another package's event type.
OTHER_FIELD: Final = bool | int | float | Text | None


@cache
def struct_of(fields: frozenset[str]) -> type[EventData]:
    """A struct of just these fields, for another package's type or with the fields that the operator allowed."""
    # Events with other names take the slow path: no struct can have them.
    names = (name for name in sorted(fields) if name.isidentifier() and not iskeyword(name))
    known = [(name, FIELD_TYPES.get(name, OTHER_FIELD), None) for name in names]
    made = msgspec.defstruct("OtherData", known, forbid_unknown_fields=True, gc=False, kw_only=True)
    return made  # type: ignore[return-value]  # it lacks some of EventData's fields, but no code reads them
