"""Rows of llm_events in two parts: what is each event's own, and what many events share.

Of the fields of a row, more than half are the same for all events of an app, a model and a tier. Their JSON is made
once, of the whole row of the first such event, and put behind the JSON of what is each event's own.
"""

from datetime import datetime
from operator import attrgetter
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from birdfeed_schemas.row_models import (
    NO_RESPONSE,
    NO_TOKENS,
    NOBODY,
    LlmEventRow,
    ProxyMetadata,
    Response,
    TemplateNumber,
    TemplateText,
    TokenCounts,
)


class OwnPart(Struct, omit_defaults=True, gc=False):
    """The fields of LlmEventRow that are each event's own, as they are there."""

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
