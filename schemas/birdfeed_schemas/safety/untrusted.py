"""Escape untrusted text for where it is shown: model and user names may be anything that a client sent.

Terminals execute control characters (ESC ] 52 writes the clipboard, a bidirectional mark reverses a line), spreadsheets
read text that begins with = as a formula, and a newline can forge a log line.
"""

import html
import re
import unicodedata
from typing import Final

#: Characters of a value that are shown in a line or label that must be short.
MAX_SHOWN: Final = 200

#: Control characters → their visible symbols. The other characters that are invisible or that terminals execute
#: (format, with bidirectional marks, surrogate, private, unassigned, line separators) are found by isprintable(), which
#: is false for these and for unusual spaces.
_CONTROLS: Final = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
#: What a spreadsheet reads as the beginning of a formula, also after spaces and in full-width forms.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20|%]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def visible(text: str) -> str:
    """A text on one line, with each unprintable character replaced by a printable one: ESC by ␛, a newline by ␊."""
    if text.isprintable():
        return text
    return "".join(
        character if _is_harmless(character) else chr(_CONTROLS.get(ord(character), ord(_REPLACEMENT)))
        for character in text
    )


def _is_harmless(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def label(text: str) -> str:
    """A text as a Prometheus label: printable, at most MAX_SHOWN characters."""
    return visible(text[:MAX_SHOWN])


def without_arguments(error: Exception) -> str:
    """What a Redis error says, without a command's arguments: a server that doesn't know it quotes what it was sent."""
    return str(error).partition(", with args beginning with")[0]


def redis_error(error: Exception) -> str:
    """The class of a Redis error and what it says, on one line."""
    text = label(without_arguments(error).rstrip("."))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def csv_cell(value: object) -> object:
    """A value as a CSV cell; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if _FORMULA.match(value) and not _NUMBER.fullmatch(shown) else shown


def html_text(text: str) -> str:
    """A text escaped for HTML, in an element or a quoted attribute."""
    return html.escape(visible(text), quote=True)


def json_text(document: str) -> str:
    """The same JSON document, with \\u escapes for characters that a terminal would execute."""
    if document.isascii():
        return document
    return "".join(one if one == "\n" or _is_harmless(one) else _escaped(one) for one in document)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[nth : nth + 2].hex()}" for nth in range(0, len(units), 2))
