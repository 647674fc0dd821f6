"""Text from outside, made fit for where it goes: model and user names are whatever somebody sent.

A terminal obeys control characters (ESC ] 52 writes the clipboard, a bidirectional mark turns a line around), a
spreadsheet takes text with = for a formula, and a newline begins a line of log that nobody wrote.
"""

import html
import re
import unicodedata
from typing import Final

#: Characters of a value that are shown where a line or a label must stay short.
MAX_SHOWN: Final = 200

#: What people can't see, or a terminal obeys: control, format (bidirectional marks among them), surrogate, private and
#: unassigned characters, and line separators. isprintable() is false for these, and for unusual blanks.
_CONTROLS: Final = {code: 0x2400 + code for code in range(0x20)} | {0x7F: 0x2421}
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
#: What a spreadsheet takes for the beginning of a formula, also after blanks and in full-width letters.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20|%]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def visible(text: str) -> str:
    """A text on one line, each character that is not printable replaced by one that is: ESC by ␛, a newline by ␊."""
    if text.isprintable():
        return text
    return "".join(
        character if _is_harmless(character) else chr(_CONTROLS.get(ord(character), ord(_REPLACEMENT)))
        for character in text
    )


def _is_harmless(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def label(text: str) -> str:
    """A text as a label of Prometheus's: visible, and not longer than MAX_SHOWN."""
    return visible(text[:MAX_SHOWN])


def csv_cell(value: object) -> object:
    """A value as a cell of CSV; text that a spreadsheet would run as a formula gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if _FORMULA.match(value) and not _NUMBER.fullmatch(shown) else shown


def html_text(text: str) -> str:
    """A text as HTML's, in an element or in a quoted attribute."""
    return html.escape(visible(text), quote=True)


def json_text(document: str) -> str:
    """A JSON document that says the same, with characters that a terminal would obey as \\u escapes."""
    if document.isascii():
        return document
    return "".join(one if one == "\n" or _is_harmless(one) else _escaped(one) for one in document)


def _escaped(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[nth : nth + 2].hex()}" for nth in range(0, len(units), 2))
