"""Send telemetry from request handlers to Tinybird, without blocking and without losing events.

    from birdfeed import track_event

    track_event("text_generation", {"model": "gpt-4o-mini", "user": "u1", "usage": response.usage})

See docs/how-to/handler.md. Importing this package opens no connection and starts no thread.
"""

from birdfeed._version import __version__
from birdfeed.api import aflush, check, close, configure, flush, start, stats, track_event
from birdfeed.errors import BirdfeedError, ConfigurationError
from birdfeed.request_context import context
from birdfeed.stats import Stats
from birdfeed.tracking.track import TrackedEvent, current_event, track
from birdfeed.typed import ContextFields, EventType, ImageGenerationFields, SettingsFields, TextGenerationFields

__all__ = [
    "BirdfeedError",
    "ConfigurationError",
    "ContextFields",
    "EventType",
    "ImageGenerationFields",
    "SettingsFields",
    "Stats",
    "TextGenerationFields",
    "TrackedEvent",
    "__version__",
    "aflush",
    "check",
    "close",
    "configure",
    "context",
    "current_event",
    "flush",
    "start",
    "stats",
    "track",
    "track_event",
]
