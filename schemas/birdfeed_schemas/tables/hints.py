"""Messages about an event's unknown fields, so that a misspelt name doesn't vanish silently."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from birdfeed_schemas.tables.variables import meant

#: Fields that programs pass and birdfeed drops on purpose, without a message.
ON_PURPOSE: Final = frozenset({"prompt", "messages", "content", "image"})
#: Names that may be quoted in a message; others may be data.
_SAYABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}").fullmatch


def unknown_names(event_data: Mapping[Any, Any], known: Iterable[str]) -> tuple[str, ...]:
    """The names in an event that are not in `known`, not dropped on purpose, and may be quoted in a message."""
    spellings = frozenset(known)
    return tuple(
        name
        for name in event_data
        if type(name) is str and name not in spellings and name not in ON_PURPOSE and _SAYABLE(name)
    )


def unknown_field(event_type: str, name: str, known: Iterable[str]) -> str:
    """The message about a field that is not stored."""
    return f"the field {name} of {event_type} is not stored{meant(name, known)}"
