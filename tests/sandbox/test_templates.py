"""Endpoint templates."""

from __future__ import annotations

import pytest
from birdfeed_sandbox.errors import DatafileError, TemplateError
from birdfeed_sandbox.store.templates import SqlTemplate


def render(text: str, **parameters: str) -> str:
    return SqlTemplate(text, path="p.pipe", line=5).render(parameters)


@pytest.mark.parametrize(
    ("text", "parameters", "expected"),
    [
        ("{{String(x, 'a')}}", {}, "'a'"),
        ("{{String(x, 'a')}}", {"x": "b"}, "'b'"),
        ("{{String(x, 'a', description='d', required=False, enum=['a'], example='e')}}", {"x": "b"}, "'b'"),
        ("{{x}}", {"x": "1"}, "'1'"),
        ("{{x}}", {"x": "100% \t\n"}, r"'100\% \t\n'"),
        ("{{Array(a, 'Float64')}}", {"a": "1,.5"}, "[1.0,0.5]"),
        ("{{Int32(n, 10)}}", {}, "toInt32('10')"),
        ("{{Int32(n, 10)}}", {"n": "-7"}, "toInt32('-7')"),
        ("{{UInt8(n)}}", {"n": "255"}, "toUInt8('255')"),
        ("{{Int64(n, 2) * 3 + 1}}", {}, "7"),
        ("{{Float64(f, 0.5)}}", {"f": "1e3"}, "toFloat64('1000.0')"),
        ("{{Date(d)}}", {"d": "2026-01-31"}, "'2026-01-31'"),
        ("{{DateTime(d)}}", {"d": "2026-01-31 10:00:00"}, "'2026-01-31 10:00:00'"),
        ("{{DateTime64(d)}}", {"d": "2026-01-31 10:00:00.123"}, "'2026-01-31 10:00:00.123'"),
        ("{{Boolean(b)}}{{Boolean(c, True)}}{{Boolean(d)}}", {"b": "false", "d": "1"}, "011"),
        ("{{Array(a, 'String', default='x,y')}}", {}, "['x','y']"),
        ("{{Array(a, 'Int32')}}", {"a": "1,2"}, "[1,2]"),
        ("{{columns(c, 'a, b.c')}}", {}, "`a`,`b`.`c`"),
        ("{{column(c, 'a')}}", {}, "`a`"),
        ("{% if defined(x) %}1{% else %}2{% end %}", {}, "2"),
        ("{% if defined(x) %}1{% else %}2{% end %}", {"x": ""}, "1"),
        ("{% if String(g, 'day') == 'day' %}D{% elif g == 'hour' %}H{% else %}M{% end %}", {"g": "hour"}, "H"),
        ("{% set size = Int32(n, 5) * 2 %}{{size}}", {}, "10"),
        ("{% for a, b in [('x', 1)] %}{{a}}{{b}}{% end %}", {}, "'x'1"),
        ("{% for f in JSON(j, '[]') %}{{f['k']}}{% end %}", {"j": '[{"k": "v"}]'}, "'v'"),
        ("{{id}} {{type}} {{format}}", {"id": "1", "type": "2", "format": "3"}, "'1' '2' '3'"),
        ("{# a comment #}x{{! left }}", {}, "x{{ left }}"),
    ],
)
def test_a_template_is_rendered(text: str, parameters: dict[str, str], expected: str) -> None:
    assert render(text, **parameters) == expected


@pytest.mark.parametrize(
    "attack", ["'; DROP TABLE events; --", "\\' OR 1=1 --", "\\", "a' OR 'a'='a", "\n'--", "}}{{1"]
)
@pytest.mark.parametrize("text", ["{{String(x)}}", "{{x}}", "{{Array(x, 'String')}}", "{% set y = x %}{{y}}"])
def test_no_parameter_can_end_its_string(text: str, attack: str) -> None:
    """Every value stays inside its own pair of quotes."""
    rendered = render(text, x=attack)

    inside = rendered.strip("[]").removeprefix("'").removesuffix("'").split("','")
    for part in inside:
        unescaped = part.replace("\\\\", "").replace("\\'", "")
        assert "'" not in unescaped
        assert not unescaped.endswith("\\")


@pytest.mark.parametrize("text", ["{{columns(x)}}", "{{column(x)}}"])
@pytest.mark.parametrize("attack", ["a`, (SELECT 1) AS `b", "a; DROP TABLE events", "a)", "a'", 'a"', "a\\"])
def test_no_parameter_can_be_more_than_a_name_where_a_name_is_required(text: str, attack: str) -> None:
    with pytest.raises(TemplateError):
        render(text, x=attack)


@pytest.mark.parametrize(
    ("text", "parameters", "message"),
    [
        ("{{Int32(n)}}", {"n": "1; DROP"}, "Error validating '1; DROP' to type Int32"),
        ("{{Int8(n)}}", {"n": "128"}, "Error validating '128' to type Int8"),
        ("{{UInt8(n)}}", {"n": "-1"}, "Error validating '-1' to type UInt8"),
        ("{{Float64(n)}}", {"n": "inf"}, "Error validating 'inf' to type Float64"),
        ("{{DateTime(d)}}", {"d": "2026-01-31"}, "Error validating '2026-01-31' to type DateTime"),
        ("{{Array(a, 'Int8')}}", {"a": "1,x"}, "Error validating 'x' to type Int8"),
        ("{{Array(a, 'Tuple')}}", {"a": "1"}, "Array of Tuple is not supported"),
        ("{{JSON(j)}}", {"j": "{"}, "Error parsing JSON"),
        ("{{x}}", {}, "expression evaluated to null"),
        ("{{columns(c)}}", {}, r"Missing columns\(\) default value"),
        ("{{column(c)}}", {}, r"Missing column\(\) default value"),
        ("{{Int32(a)}} {{String(b)}} {{String(c, 'd')}}", {}, "Check the parameters a, b"),
        ("{{Array(a)}}", {}, "Check the parameters a"),
        ("{{x.nope}}", {"x": "1"}, "no attribute"),
        ("{{ len }}", {}, "can't print"),
    ],
)
def test_an_invalid_parameter_is_named(text: str, parameters: dict[str, str], message: str) -> None:
    with pytest.raises(TemplateError, match=message) as caught:
        render(text, **parameters)

    assert caught.value.status == 400


def test_a_template_may_return_an_error() -> None:
    """With a text and optionally a status."""
    with pytest.raises(TemplateError, match="not this way") as caught:
        render("{% if defined(x) %}{{custom_error('not this way', 418)}}{% end %}", x="1")

    assert caught.value.status == 418


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("\n{% if x %}", 6, "Missing {% end %} block for if"),
        ("\n\n{{ 1 + }}", 7, "1 +"),
        ("a\n{% import os %}", 6, "import is forbidden"),
        ("a\n\n{{ open('/etc/passwd') }}", 7, "'open' is not a valid function"),
        ("{{Strin(x)}}", 5, "'Strin' is not a valid function"),
        ("{% if columns == 'a' %}{% end %}", 5, "'columns' is a function"),
    ],
)
def test_a_template_that_is_wrong_names_file_and_line(text: str, line: int, message: str) -> None:
    with pytest.raises(DatafileError) as caught:
        render(text)

    assert (caught.value.path, caught.value.line) == ("p.pipe", line)
    assert message in caught.value.message
