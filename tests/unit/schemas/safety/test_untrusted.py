"""Text from outside, for each kind of output."""

import json
import unicodedata

import orjson
import pytest
from birdfeed_schemas.safety.untrusted import MAX_SHOWN, csv_cell, html_text, json_text, label, visible
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(st.characters(exclude_categories=[]))
PLAIN = st.text(st.characters(exclude_categories=["Cs"]))


@given(text=TEXT)
def test_shown_text_has_no_control_effect(text: str) -> None:
    """Each character is replaced by one, on one line; printable ones are unchanged."""
    shown = visible(text)

    assert len(shown) == len(text)
    assert {unicodedata.category(one)[0] for one in shown}.isdisjoint({"C"})
    assert len(shown.splitlines()) <= 1
    assert visible(shown) == shown
    assert all(now == before for now, before in zip(shown, text, strict=True) if before.isprintable())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("gpt-4.1", "gpt-4.1"),
        ("naïve モデル 🎉", "naïve モデル 🎉"),
        ("a\nb\r\tc", "a␊b␍␉c"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("a\u202eb\u2066c\u200d\u2028\x9b\x7f", "a�b�c���␡"),
        ("a\xa0b", "a\xa0b"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(text=PLAIN)
def test_json_has_the_same_text(text: str) -> None:
    """Escaped for terminals, complete when parsed."""
    document = json_text(orjson.dumps({text: [text]}, option=orjson.OPT_INDENT_2).decode())

    assert json.loads(document) == {text: [text]}
    assert all(one == "\n" or unicodedata.category(one)[0] != "C" for one in document)


@pytest.mark.parametrize(
    "text", ["=1", "+cmd", "-cmd|' /C x'!A0", "@SUM(A1)", "  =1", "\t=1", "\uff1d1", "-", "|", "%"]
)
def test_a_formula_becomes_text(text: str) -> None:
    assert csv_cell(text) == f"'{visible(text)}"


@pytest.mark.parametrize("value", ["gpt-4.1", "-5", "+0.25", "-1e-7", "", "a=b", 5, 0.5, None])
def test_other_cells_are_unchanged(value: object) -> None:
    """Numbers in particular."""
    assert csv_cell(value) == value


def test_html_and_labels() -> None:
    assert html_text("<a href='x'>\x1b&\"") == "&lt;a href=&#x27;x&#x27;&gt;␛&amp;&quot;"
    assert label("x" * 1_000 + "\n") == "x" * MAX_SHOWN
    assert label("a\nb") == "a␊b"
