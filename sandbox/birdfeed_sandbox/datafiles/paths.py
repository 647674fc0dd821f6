"""JSON paths as datafiles write them: `$.a.b`, `$.list[:]`, `$.list[:].name`, `$.['a key']`, `$`."""

from __future__ import annotations

import re
from typing import Final

#: The step that stands for each element of an array, written `[:]`.
EACH: Final = "[:]"

#: Steps from the root down: a key, or EACH. Empty for `$`, the whole row.
JsonPath = tuple[str, ...]

_STEP = re.compile(
    r"""  \[:\]
        | \.? \[ (?P<quote>['"]) (?P<quoted>.+?) (?P=quote) \]
        | \. (?P<key> [^.\[\]'"\s]+ )
    """,
    re.VERBOSE,
)


def parse_path(text: str) -> JsonPath:
    """The steps of a JSON path; raises ValueError if it has none of the forms above."""
    if not text.startswith("$"):
        raise ValueError(f"a JSON path begins with $, this one doesn't: {text}")
    steps: list[str] = []
    position = 1
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None:
            raise ValueError(f"can't read the JSON path {text} from {text[position:]!r} on")
        steps.append(match["key"] or match["quoted"] or EACH)
        position = match.end()
    return tuple(steps)
