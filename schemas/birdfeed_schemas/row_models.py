"""The models of what Tinybird stores, one per data source, nested as the JSON is.

They are the truth the data sources are tested against; their defaults are the columns'. rows.py builds the rows.
"""

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, create_model

from birdfeed_schemas.tables.meters import COUNTERS, DEFAULTS, FRACTIONS, TOKEN_CLASSES


class _Counts(BaseModel):
    model_config = ConfigDict(extra="forbid")


if TYPE_CHECKING:

    class TokenCounts(_Counts):
        """Tokens by class; disjoint, they sum to the totals."""

    class Counters(_Counts):
        """What is billed beside tokens."""

else:
    #: Made of the meter table: a new meter is a new field.
    TokenCounts = create_model("TokenCounts", __base__=_Counts, **dict.fromkeys(TOKEN_CLASSES, (int, 0)))
    Counters = create_model(
        "Counters",
        __base__=_Counts,
        **{name: (float, 0.0) if name in FRACTIONS else (int, DEFAULTS.get(name, 0)) for name in COUNTERS},
    )


class Row(BaseModel):
    """What the rows of every data source have. Times are UTC (ISO 8601 in the JSON), duration milliseconds, cost USD.

    cost is a plain number for the existing Float32 column, cost_exact the same as exact text for our Decimal column.
    A field with a default is left out of the JSON where it has that value: it is its column's default.
    """

    model_config = ConfigDict(extra="forbid")

    event_id: str
    event_type: str
    occurred_at: datetime
    start_time: datetime
    end_time: datetime
    time_clamped: bool = False
    model: str
    model_used: str
    provider: str = "unknown"
    user: str = "unknown"
    username: str = ""
    tier: str = "unknown"
    tier_source: str = "none"
    status: str
    error_type: str = ""
    error_code: str = ""
    exception: str = ""
    traceback: str = ""
    duration: float
    request_id: str = ""
    referrer: str = ""
    cache_hit: bool = False
    cache_key: str = ""
    service_tier: str = ""
    cost: float
    cost_exact: str
    cost_status: str
    usage_status: str
    price_match: str = "none"
    price_model: str = ""
    price_source: str = "none"
    price_book: str = ""
    price_rates: str = ""
    tokens: TokenCounts = TokenCounts()
    counters: Counters = Counters()
    usage_raw: str = ""
    usage_raw_dropped: bool = False
    truncated: bool = False
    trace_id: str = ""
    span_id: str = ""
    extra: str = ""
    dropped_fields: int = 0
    enriched_at: datetime
    replay_id: str = ""


class ProxyMetadata(BaseModel):
    """Where the template keeps what belongs to the caller."""

    model_config = ConfigDict(extra="forbid")

    organization: str = ""
    project: str = ""
    environment: str = ""
    chat_id: str = ""


class ResponseUsage(BaseModel):
    """Totals as the template has them."""

    model_config = ConfigDict(extra="forbid")

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class Response(BaseModel):
    """The answer, without its content."""

    model_config = ConfigDict(extra="forbid")

    id: str
    object: str
    usage: ResponseUsage = ResponseUsage()


class LlmEventRow(Row):
    """A row of llm_events, from text_generation."""

    id: str
    message_id: str
    call_type: str
    log_event_type: str
    stream: bool = False
    standard_logging_object_status: str
    standard_logging_object_response_time: float
    llm_api_duration_ms: float
    proxy_metadata: ProxyMetadata = ProxyMetadata()
    response: Response
    moderation: str = ""
    moderation_flagged: bool = False


class ImageEventRow(Row):
    """A row of image_events, from image_generation."""

    environment: str = ""
    organization: str = ""
    project: str = ""
    image_size: str = ""
    width: int = 0
    height: int = 0
    num_images: int
    quality: str = ""
    has_input_image: bool = False
    video_seconds: float = 0.0
    audio_seconds: float = 0.0
