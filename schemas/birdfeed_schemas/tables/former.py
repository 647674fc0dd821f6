"""Columns that birdfeed's data sources had in earlier versions; they were removed because other columns hold the same.

A table made from an earlier datafile still has them, and rows for it still fill them. A table without any of them was
made from the current datafile: its rows are short, and also leave out fields that have their value in DEFAULTS.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from birdfeed_schemas.tables.meters import PROMPT_CLASSES, TOKEN_CLASSES


class Former(NamedTuple):
    """A former column.

    Attributes:
        name, type, path: As in the datafile.
        default: Its default as SQL; None if rows had to have a value.
        now: SQL over the current columns for the value that birdfeed's rows had in it.
    """

    name: str
    type: str
    path: str
    default: str | None
    now: str


_WORD: Final = "LowCardinality(String)"
_PROMPT: Final = " + ".join(f"{name}_tokens" for name in PROMPT_CLASSES)
_COMPLETION: Final = " + ".join(f"{name}_tokens" for name in TOKEN_CLASSES if name not in PROMPT_CLASSES)
_STATUS: Final = "$.standard_logging_object_status"
_TIME: Final = "$.standard_logging_object_response_time"

#: Data source → its former columns.
FORMER: Final[Mapping[str, tuple[Former, ...]]] = {
    "llm_events": (
        Former("id", "String", "$.id", "''", "event_id"),
        Former("message_id", "String", "$.message_id", None, "if(request_id = '', event_id, request_id)"),
        Former("call_type", _WORD, "$.call_type", "'unknown'", "'completion'"),
        Former(
            "log_event_type",
            _WORD,
            "$.log_event_type",
            "'unknown'",
            "if(response_status = 'error', 'failed_api_call', 'successful_api_call')",
        ),
        Former(
            "standard_logging_status",
            _WORD,
            _STATUS,
            "'unknown'",
            "if(response_status = 'error', 'failure', 'success')",
        ),
        Former("response_time", "Float64", _TIME, "0", "duration"),
        Former("llm_api_duration_ms", "Float64", "$.llm_api_duration_ms", "0", "duration"),
        Former("response_object", _WORD, "$.response.object", "'unknown'", "'chat.completion'"),
        Former("prompt_tokens", "UInt64", "$.response.usage.prompt_tokens", "0", _PROMPT),
        Former("completion_tokens", "UInt64", "$.response.usage.completion_tokens", "0", _COMPLETION),
        Former("total_tokens", "UInt64", "$.response.usage.total_tokens", "0", f"{_PROMPT} + {_COMPLETION}"),
    )
}
#: Column → the default with which a short row leaves it out. In earlier datafiles it had another default, or none.
DEFAULTS: Final[Mapping[str, str]] = {
    "event_type": "text_generation",
    "status": "success",
    "cost_status": "priced",
    "usage_status": "ok",
    "tier_source": "event",
    "price_match": "original_name",
    "price_source": "book",
}


def is_short(datasource: str, columns: Collection[str]) -> bool:
    """Whether a data source with these columns takes short rows: it was made from birdfeed's current datafile."""
    former = FORMER.get(datasource)
    return former is not None and "event_id" in columns and not any(one.name in columns for one in former)
