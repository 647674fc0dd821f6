"""The lines of keys in a TOML text."""

import tomllib
from typing import Any

import pytest
from birdfeed_worker.pricing.book.toml_lines import Path, key_lines, line_of

TEXT = '''# [[model]] in a comment
title = "a [[model]] in # a string" # name = "x"
dotted . "key with . dot" = 1

[table]
text = """
name = 1
""" # more
'quoted key' = 'C:\\'

[[model]]
name = "m"
list = [ # comment ]
  1,
  { a = 1, b = [ { c = "}" } ] },
]

[model.sub]
x = 1979-05-27 07:32:00

[[model]]
name = "n"
[[model.sub]]
y = {z.w = 1}
[[model.sub]]
y = 2
'''


def paths(value: Any, path: Path = ()) -> set[Path]:
    """Every path in parsed TOML."""
    found = {path} if path else set()
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        found |= paths(part, (*path, key))
    return found


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("dotted", "key with . dot"), 3),
        (("table",), 5),
        (("table", "text"), 6),
        (("table", "quoted key"), 9),
        (("model", 0), 11),
        (("model", 0, "name"), 12),
        (("model", 0, "list"), 13),
        (("model", 0, "list", 0), 14),
        (("model", 0, "list", 1), 15),
        (("model", 0, "list", 1, "b", 0, "c"), 15),
        (("model", 0, "sub"), 18),
        (("model", 0, "sub", "x"), 19),
        (("model", 1), 21),
        (("model", 1, "name"), 22),
        (("model", 1, "sub", 0), 23),
        (("model", 1, "sub", 0, "y", "z", "w"), 24),
        (("model", 1, "sub", 1, "y"), 26),
    ],
)
def test_lines(path: Path, line: int) -> None:
    """Each key, table and element is on the line it is written on."""
    assert line == key_lines(TEXT)[path]


def test_text_in_strings_and_comments_is_not_a_key() -> None:
    """Keys are found only where they are keys."""
    assert set(key_lines(TEXT)) <= paths(tomllib.loads(TEXT))


def test_the_line_of_a_missing_key() -> None:
    """The line of the table in which it is missing, or the first line."""
    lines = key_lines(TEXT)

    assert (line_of(lines, ("model", 1, "price", "x")), line_of(lines, ("nothing",))) == (21, 1)
