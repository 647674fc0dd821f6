"""What Tinybird stores, one struct per data source, nested as the JSON is. rows.py fills them.

They are the truth the data sources are tested against. Their defaults are the columns', and a field that has its
default is left out of the JSON: it must be the same object, which all small numbers and the texts written here are.
What may be UNSET is so in short rows, for a llm_events that has no column for it, or has it as its default
(tables/former.py); the llm_events of Tinybird's LLM template, and ours of before, get all of it.
"""

from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from msgspec import UNSET, Struct, UnsetType

from birdfeed_schemas.tables.meters import COUNTERS, DEFAULTS, FRACTIONS, TOKEN_CLASSES

#: The default of fields that are numbers with a fraction.
NO_SECONDS: Final = 0.0
#: Of an event that stands for itself alone: all of its kind were sent.
ALL_SENT: Final = 1.0
#: A field that short rows don't have.
TemplateText: TypeAlias = str | UnsetType
TemplateNumber: TypeAlias = float | UnsetType
#: A field that short rows leave out where it is its column's default; other rows have it always.
Usual: TypeAlias = str | UnsetType


class _Counts(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Numbers by name."""


if TYPE_CHECKING:

    class TokenCounts(_Counts, frozen=True):
        """Tokens by class; disjoint, they sum to the totals."""

        def __init__(self, *counts: int, **named: int) -> None: ...

    class Counters(_Counts, frozen=True):
        """What is billed beside tokens."""

        def __init__(self, **named: float) -> None: ...

else:
    #: Made of the meter table: a new meter is a new field.
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
    """What the rows of every data source have. Times are UTC (ISO 8601 in the JSON), duration milliseconds, cost USD.

    cost_exact is the cost as exact text, for a Decimal column.
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
    """Where the template keeps what belongs to the caller."""

    organization: str = ""
    project: str = ""
    environment: str = ""
    chat_id: str = ""


class ResponseUsage(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """Totals as the template has them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


NOBODY: Final = ProxyMetadata()
NO_TOTALS: Final = ResponseUsage()


class Response(Struct, frozen=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """The answer, without its content."""

    id: TemplateText = UNSET
    usage: ResponseUsage = NO_TOTALS
    object: TemplateText = UNSET


NO_RESPONSE: Final = Response()


class LlmEventRow(Row, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """A row of llm_events, from text_generation. `cost` is a plain number, for the template's Float32 column."""

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
    """The fields of LlmEventRow that are each event's own, as they are there.

    More than half of a row's fields are the same for all events of an app, a model and a tier: their JSON is made once
    (shared_json) and put behind that of each own part (pipeline/alike.py).
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


#: The fields of an event that are read for it; all others may be shared.
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
    """What follows the JSON of an own part, whose closing brace it replaces."""
    shared: Any = _SharedPart(*_shared(row))
    return b"," + _encode(shared)[1:]
