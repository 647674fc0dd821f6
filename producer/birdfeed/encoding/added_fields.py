"""What is added to events that don't say it: the process's defaults, and the ids of OpenTelemetry's active span.

OpenTelemetry is never imported here: only a program that has imported its SDK has spans. (Its API alone is imported by
redis-py, where it is installed.)
"""

import sys
from collections.abc import Collection, Mapping
from typing import Any, Final

from birdfeed_schemas.fields import COMMON

#: Fields of a process, from settings of the same name.
DEFAULTS: Final = ("environment", "project", "organization")
#: What a program has imported that makes spans.
_SDK: Final = "opentelemetry.sdk.trace"
_TRACE_NAMES: Final = frozenset(("trace_id", "span_id", *COMMON["trace_id"], *COMMON["span_id"]))


def active_span() -> dict[str, str]:
    """trace_id and span_id (hex) of the span that is active here; nothing where there is none. Never raises."""
    if _SDK not in sys.modules:
        return {}
    try:
        span = sys.modules["opentelemetry.trace"].get_current_span().get_span_context()
        return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}
    except Exception:  # another version of it, or one that is being imported by another thread
        return {}


class AddedFields:
    """Adds to an event's data what it doesn't say itself; None, said by the event, stays None."""

    def __init__(self, defaults: Mapping[str, str]) -> None:
        self._defaults = {name: value for name, value in defaults.items() if value}
        #: Whether anything can be to add; looked at for every event, set by `look`.
        self.any = False
        self.look()

    def look(self) -> None:
        """See whether the program has imported OpenTelemetry's SDK by now."""
        self.any = bool(self._defaults) or _SDK in sys.modules

    def to(self, event_data: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
        """The data with the added fields that its type has (`names`); the same object where nothing is to add."""
        added = self._defaults
        if _TRACE_NAMES.isdisjoint(event_data) and (span := active_span()):
            added = {**added, **span}
        return {**{name: added[name] for name in added if name in names}, **event_data} if added else event_data
