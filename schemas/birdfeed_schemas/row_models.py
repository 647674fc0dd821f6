"""What Tinybird stores: one struct per data source, nested as the JSON is. rows.py fills them.

Tests compare the datafiles with these structs. The fields' defaults are the columns' defaults, and a field with its
default is left out of the JSON; msgspec compares by identity, which works for small numbers and the texts written here.
Fields that may be UNSET are unset in short rows: for an llm_events that has no column for them, or whose column
defaults to the value (tables/former.py). The llm_events of Tinybird's LLM template, and birdfeed's earlier ones, get
all fields.
"""

from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from birdfeed_schemas.tables.meters import COUNTERS, DEFAULTS, FRACTIONS, TOKEN_CLASSES

#: The default of fields with a fraction.
NO_SECONDS: Final = 0.0
#: The sample rate of an event whose type is not sampled: all events were sent.
ALL_SENT: Final = 1.0
#: A field that short rows don't have.
TemplateText: TypeAlias = str | UnsetType
TemplateNumber: TypeAlias = float | UnsetType
#: A field that short rows leave out if it has its column's default; other rows always have it.
Usual: TypeAlias = str | UnsetType


class _Counts(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Numbers by name."""


if TYPE_CHECKING:

    class TokenCounts(_Counts, frozen=True):
        """Tokens by class; the classes are disjoint and sum to the totals."""

        def __init__(self, *counts: int, **named: int) -> None: ...

    class Counters(_Counts, frozen=True):
        """Counts of what is billed besides tokens."""

        def __init__(self, **named: float) -> None: ...

else:
    #: Made from the meter table: a new meter is a new field.
    TokenCounts = msgspec.defstruct(
        "TokenCounts", [(name, int, 0) for name in TOKEN_CLASSES], bases=(_Counts,), frozen=True, gc=False
    )
    Counters = msgspec.defstruct(
        "Counters",
        [(name, float, NO_SECONDS) if name in FRACTIONS else (name, int, DEFAULTS.get(name, 0)) for name in COUNTERS],
        bases=(_Counts,),
        frozen=True,
        gc=False,
    )

NO_TOKENS: Final = TokenCounts()
NO_COUNTERS: Final = Counters()


class Row(Struct, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """The fields of every row. Times are UTC (ISO 8601 in the JSON), duration is in milliseconds, cost in USD.

    cost_exact is the cost as exact decimal text, for a Decimal column.
    """

    event_id: str
    event_type: Usual
    occurred_at: datetime
    start_time: datetime
    end_time: datetime
    model: str
    model_used: str
    status: Usual
    duration: float
    cost_exact: str
    cost_status: Usual
    usage_status: Usual
    tier_source: Usual
    price_match: Usual
    price_source: Usual
    enriched_at: datetime
    time_clamped: bool = False
    provider: str = "unknown"
    user: str = "unknown"
    username: str = ""
    tier: str = "unknown"
    error_type: str = ""
    error_code: str = ""
    exception: str = ""
    traceback: str = ""
    request_id: str = ""
    referrer: str = ""
    cache_hit: bool = False
    cache_key: str = ""
    service_tier: str = ""
    price_model: str = ""
    price_book: str = ""
    price_rates: str = ""
    tokens: TokenCounts = NO_TOKENS
    counters: Counters = NO_COUNTERS
    usage_raw: str = ""
    usage_raw_dropped: bool = False
    truncated: bool = False
    trace_id: str = ""
    span_id: str = ""
    sample_rate: float = ALL_SENT
    extra: str = ""
    dropped_fields: int = 0
    replay_id: str = ""


class ProxyMetadata(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """The caller's fields, where Tinybird's LLM template has them."""

    organization: str = ""
    project: str = ""
    environment: str = ""
    chat_id: str = ""


class ResponseUsage(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Token totals, as the template has them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


NOBODY: Final = ProxyMetadata()
NO_TOTALS: Final = ResponseUsage()


class Response(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """The model's response, without its content."""

    id: TemplateText = UNSET
    usage: ResponseUsage = NO_TOTALS
    object: TemplateText = UNSET


NO_RESPONSE: Final = Response()


class LlmEventRow(Row, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """A row of llm_events, from text_generation. `cost` is a float, for the template's Float32 column."""

    stream: bool = False
    proxy_metadata: ProxyMetadata = NOBODY
    response: Response = NO_RESPONSE
    moderation: str = ""
    moderation_flagged: bool = False
    id: TemplateText = UNSET
    message_id: TemplateText = UNSET
    call_type: TemplateText = UNSET
    log_event_type: TemplateText = UNSET
    standard_logging_object_status: TemplateText = UNSET
    standard_logging_object_response_time: TemplateNumber = UNSET
    llm_api_duration_ms: TemplateNumber = UNSET
    cost: TemplateNumber = UNSET


class ImageEventRow(Row, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """A row of image_events, from image_generation."""

    environment: str = ""
    organization: str = ""
    project: str = ""
    image_size: str = ""
    width: int = 0
    height: int = 0
    num_images: int = 0
    quality: str = ""
    has_input_image: bool = False
    video_seconds: float = NO_SECONDS
    audio_seconds: float = NO_SECONDS


class OwnPart(Struct, omit_defaults=True, gc=False):
    """The fields of LlmEventRow that differ from event to event.

    More than half of a row's fields are the same for all events of an app, a model and a tier: their JSON is made once
    (shared_json) and appended to that of each own part (pipeline/alike.py).
    """

    event_id: str
    occurred_at: datetime
    start_time: datetime
    end_time: datetime
    duration: float
    cost_exact: str
    enriched_at: datetime
    time_clamped: bool = False
    user: str = "unknown"
    username: str = ""
    request_id: str = ""
    referrer: str = ""
    cache_key: str = ""
    trace_id: str = ""
    span_id: str = ""
    truncated: bool = False
    dropped_fields: int = 0
    replay_id: str = ""
    tokens: TokenCounts = NO_TOKENS
    usage_raw: str = ""
    proxy_metadata: ProxyMetadata = NOBODY
    response: Response = NO_RESPONSE
    id: TemplateText = UNSET
    message_id: TemplateText = UNSET
    standard_logging_object_response_time: TemplateNumber = UNSET
    llm_api_duration_ms: TemplateNumber = UNSET
    cost: TemplateNumber = UNSET


#: The fields of an event from which an own part is made; all others may be shared.
OWN_FIELDS: Final = frozenset(
    {"user", "username", "request_id", "referrer", "cache_key", "trace_id", "span_id", "start_time", "end_time",
     "duration", "usage", "organization", "project", "chat_id", "response_id"}
)  # fmt: skip

_SHARED_FIELDS: Final = [
    one for one in msgspec.structs.fields(LlmEventRow) if one.name not in OwnPart.__struct_fields__
]
_SharedPart: Final = msgspec.defstruct(
    "_SharedPart",
    [(one.name, one.type, *(() if one.default is msgspec.NODEFAULT else (one.default,))) for one in _SHARED_FIELDS],
    omit_defaults=True,
    gc=False,
)
_shared: Final = attrgetter(*(one.name for one in _SHARED_FIELDS))
_encode: Final = msgspec.json.Encoder().encode


def shared_json(row: LlmEventRow) -> bytes:
    """The JSON of the shared fields; it replaces the closing brace of an own part's JSON."""
    shared: Any = _SharedPart(*_shared(row))
    return b"," + _encode(shared)[1:]
