"""Add fields that an event doesn't have: the process's defaults, and the ids of OpenTelemetry's active span.

OpenTelemetry is never imported here: only a program that has imported its SDK has spans. (Checking for its API would
not do, because redis-py imports the API if it is installed.)
"""

import sys
from collections.abc import Collection, Mapping
from typing import Any, Final

from birdfeed_schemas.fields import COMMON

#: Fields of a process, from settings of the same name.
DEFAULTS: Final = ("environment", "project", "organization")
#: The module that is imported in a program that makes spans.
_SDK: Final = "opentelemetry.sdk.trace"
_TRACE_NAMES: Final = frozenset(("trace_id", "span_id", *COMMON["trace_id"], *COMMON["span_id"]))


def active_span() -> dict[str, str]:
    """trace_id and span_id (hex) of the active span; empty if there is none. Never raises."""
    if _SDK not in sys.modules:
        return {}
    try:
        span = sys.modules["opentelemetry.trace"].get_current_span().get_span_context()
        return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"} if span.is_valid else {}
    except Exception:  # an incompatible version, or another thread is still importing it
        return {}


class AddedFields:
    """Adds fields that an event's data doesn't have; a field that the event sets to None stays None."""

    def __init__(self, defaults: Mapping[str, str]) -> None:
        self._defaults = {name: value for name, value in defaults.items() if value}
        #: Whether there may be anything to add. Read for every event; set by `look`.
        self.any = False
        self.look()

    def look(self) -> None:
        """Check whether the program has imported OpenTelemetry's SDK by now."""
        self.any = bool(self._defaults) or _SDK in sys.modules

    def to(self, event_data: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
        """The data with those added fields that its type has (`names`); the same object if there is nothing to add."""
        added = self._defaults
        if _TRACE_NAMES.isdisjoint(event_data) and (span := active_span()):
            added = {**added, **span}
        return {**{name: added[name] for name in added if name in names}, **event_data} if added else event_data
