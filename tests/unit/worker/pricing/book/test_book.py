"""The price book: the shipped one compared with the facts, errors with line and field, hash, dates."""

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from birdfeed_worker.pricing.book.book import PriceBookError, load, parse

from tests.support.pricing.cases import NOW, read_json

FACTS: list[dict[str, Any]] = read_json("price_book_facts.json")["models"]


def problems(text: str) -> list[tuple[int, str, str]]:
    """The problems of a book: line, field, message."""
    with pytest.raises(PriceBookError) as caught:
        parse(text, origin="prices.toml")
    return [(problem.line, problem.field, problem.message) for problem in caught.value.problems]


def decimals(rates: dict[str, str]) -> dict[str, Decimal]:
    return {name: Decimal(rate) for name, rate in rates.items()}


def test_the_shipped_book_has_every_fact() -> None:
    """Every deployment of the facts is in the shipped book, with its names, unit, rates and variants; no other is."""
    models = load().models
    shipped = [
        {
            "name": model.name,
            "aliases": list(model.aliases),
            "original_name": model.original_name,
            "provider": model.provider,
            "unit": model.unit,
            "rates": model.price[0].given,
            "variants": [
                (variant.when.model_dump(exclude_none=True), variant.given) for variant in model.price[0].variants
            ],
            "prices": len(model.price),
        }
        for model in models.values()
        if model.source is None  # a correction of a public model
    ]
    facts = [
        {
            **fact,
            "rates": decimals(fact["rates"]),
            "variants": [
                (variant["when"], decimals({key: rate for key, rate in variant.items() if key != "when"}))
                for variant in fact.get("variants", [])
            ],
            "prices": 1,
        }
        for fact in FACTS
    ]

    assert facts == shipped


TOKEN = '[[model]]\nname = "m"\nunit = "token"\n'
IMAGE = '[[model]]\nname = "m"\nunit = "image"\n'
ONE = '[[model]]\nname = "{name}"\nunit = "token"\nprice = {{ prompt_text = 1 }}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            TOKEN + "price = { prompt_text = -1 }\n",
            [(4, "m: price.prompt_text", "a rate in USD must be 0 or more, not -1")],
        ),
        (
            TOKEN + "price = [\n  { until = 2026-01-01, prompt_text = 1 },\n"
            '  { from = 2026-01-01, prompt_text = "much" },\n]\n',
            [(6, "m: price[1].prompt_text", "a rate in USD must be a number, not 'much'")],
        ),
        (
            TOKEN + "[model.price]\nprompt_text = nan\ncompletion_text = inf\n",
            [
                (5, "m: price.prompt_text", "a rate in USD must be 0 or more, not NaN"),
                (6, "m: price.completion_text", "a rate in USD must be 0 or more, not Infinity"),
            ],
        ),
        (
            TOKEN + "price = { prompt_text = true, prompt_audio = [1] }\n",
            [
                (4, "m: price.prompt_audio", "a rate in USD must be a number"),
                (4, "m: price.prompt_text", "a rate in USD must be a number"),
            ],
        ),
        (
            TOKEN + "price = { prompt_text = 100001 }\n",
            [(4, "m: price.prompt_text", "a rate in USD of more than 100,000 must be a mistake: 100001")],
        ),
        (
            TOKEN + "price = { prompt_text = 0.1234567890123 }\n",
            [(4, "m: price.prompt_text", "a rate in USD must have at most 12 decimal places")],
        ),
        (
            TOKEN + "price = { prompt_txt = 1 }\n",
            [
                (4, "m: price.prompt_txt", "there is no such field"),
            ],
        ),
        (
            '[[model]]\nname = "m"\nunit = "token"\nprise = { prompt_text = 1 }\n',
            [(1, "m: price", "is required"), (4, "m: prise", "there is no such field")],
        ),
        ('[[models]]\nname = "m"\n', [(1, "models", "there is no such field")]),
        (
            '[[model]]\nunit = "token"\nprice = { prompt_text = 1 }\n',
            [(1, "model[0].name", "is required")],
        ),
        (
            '[[model]]\nname = ""\nunit = "token"\nprice = { prompt_text = 1 }\n',
            [(2, "model[0].name", "is empty")],
        ),
        (
            '[[model]]\nname = "m"\nunit = "tokens"\nprice = { prompt_text = 1 }\n',
            [(3, "m: unit", "Input should be 'token', 'image', 'megapixel', 'second', 'character' or 'page'")],
        ),
        (
            TOKEN + "price = []\n",
            [(4, "m: price", "is empty")],
        ),
        (
            IMAGE + "\nprice = { image = 1, completion_text = 2 }\n",
            [
                (
                    5,
                    "m: price.completion_text",
                    "the model's unit is 'image', so it can't have the rate 'completion_text': a model has one unit",
                )
            ],
        ),
        (
            TOKEN + 'price = { prompt_text = 1, variants = [\n  { when = { quality = "hd" }, image = 2 },\n] }\n',
            [
                (
                    5,
                    "m: price.variants[0].image",
                    "the model's unit is 'token', so it can't have the rate 'image': a model has one unit",
                )
            ],
        ),
        (
            IMAGE + "price = { image = 1, variants = [{ when = {}, image = 2 }] }\n",
            [
                (
                    4,
                    "m: price.variants[0].when",
                    "a variant needs a condition: quality, size, resolution or has_input_image",
                )
            ],
        ),
        (
            IMAGE + 'price = { image = 1, variants = [{ when = { mood = "x" }, image = 2 }] }\n',
            [(4, "m: price.variants[0].when.mood", "there is no such field")],
        ),
        (
            ONE.format(name="m") + ONE.format(name="n") + ONE.format(name="m"),
            [(10, "m: name", "the name 'm' is taken by the model 'm'")],
        ),
        (
            ONE.format(name="m") + 'aliases = ["a", "b"]\n' + ONE.format(name="n") + 'aliases = [\n  "c",\n  "b",\n]\n',
            [(12, "n: aliases[1]", "the alias 'b' is taken by an alias of 'm'")],
        ),
        (
            ONE.format(name="m") + ONE.format(name="n") + 'aliases = ["m"]\n',
            [(9, "n: aliases[0]", "the alias 'm' is taken by the model 'm'")],
        ),
        (
            ONE.format(name="m") + 'original_name = "o"\n' + ONE.format(name="n") + 'original_name = "o"\n',
            [(10, "n: original_name", "the original name 'o' is taken by 'm'")],
        ),
        (
            TOKEN + "price = [\n  { prompt_text = 1, until = 2026-02-02 },\n"
            "  { prompt_text = 1, from = 2026-02-01 },\n]\n",
            [(6, "m: price[1]", "overlaps in time with price 1 of the same model")],
        ),
        (
            TOKEN + "price = [{ prompt_text = 1 }, { prompt_text = 1, from = 2026-02-01 }]\n",
            [(4, "m: price[1]", "overlaps in time with price 1 of the same model")],
        ),
        (
            TOKEN + "[[model.price]]\nprompt_text = 1\nuntil = 2026-01-01\n"
            "[[model.price]]\nprompt_text = 1\nfrom = 2025-01-01\n",
            [(7, "m: price[1]", "overlaps in time with price 1 of the same model")],
        ),
        (
            TOKEN + "price = { prompt_text = 1, from = 2026-02-02, until = 2026-02-02 }\n",
            [(4, "m: price", "`from` must be before `until`")],
        ),
        (
            TOKEN + 'price = { prompt_text = 1, from = "2026-02-02" }\n',
            [(4, "m: price.from", "a date must be written without quotes: 2026-01-31")],
        ),
        (
            "[service_tiers]\nbatch = -0.5\n",
            [(2, "service_tiers.batch", "a multiplier must be 0 or more, not -0.5")],
        ),
        (
            '[service_tiers]\n"Batch" = 0.5\n',
            [(2, "service_tiers.Batch", "a service tier must be in lower case")],
        ),
    ],
)
def test_every_problem(text: str, expected: list[tuple[int, str, str]]) -> None:
    """Every problem, with the line it is on and the field it is in."""
    assert expected == problems(text)


@pytest.mark.parametrize(("text", "line"), [("[[model]\n", 1), ('[[model]]\nname = "m\n', 2), ("a = 1\nname = ", 2)])
def test_invalid_toml(text: str, line: int) -> None:
    """The parser's message, with the line."""
    assert [(line, "", "not TOML: ")] == [(at, field, message[:10]) for at, field, message in problems(text)]


def test_all_problems_together() -> None:
    """Not only the first one."""
    text = ONE.format(name="m") + 'original_name = 5\n[service_tiers]\nx = "y"\n'

    assert [found[:2] for found in problems(text)] == [(5, "m: original_name"), (7, "service_tiers.x")]


def test_the_message_is_for_a_terminal() -> None:
    """One line a problem: file, line, field, sentence; it survives pickling."""
    with pytest.raises(PriceBookError) as caught:
        parse(TOKEN + "price = { prompt_text = -1 }\n", origin="mine.toml")
    error = pickle.loads(pickle.dumps(caught.value))

    assert str(error) == "mine.toml:4: m: price.prompt_text: a rate in USD must be 0 or more, not -1"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Missing, a directory, or not text: reported in one line."""
    binary = tmp_path / "b.toml"
    binary.write_bytes(b"\xff\xfe")

    for path, reason in (
        (tmp_path / "none.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (binary, "codec can't decode"),
    ):
        with pytest.raises(PriceBookError, match=reason):
            load(path)


def test_rates_are_read_exactly() -> None:
    """0.1 is 0.1, quoted or not, in either notation; nothing is converted to a float."""
    book = parse(
        '[[model]]\nname = "m"\nunit = "token"\n'
        'price = { prompt_text = 0.100000000001, prompt_cached = "0.100000000001", completion_text = 1e-3 }\n',
        origin="x",
    )
    found = book.find("m", NOW)

    assert found is not None
    assert {
        "prompt_text": Decimal("0.100000000001"),
        "prompt_cached": Decimal("0.100000000001"),
        "completion_text": Decimal("0.001"),
    } == found.entry.rates


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# a comment\n" + ONE.format(name="m"), True),
        ('[[model]]\nunit = "token"\nname = "m"\nprice = [{ prompt_text = 1.00 }]\n', True),
        (ONE.format(name="n"), False),
        (ONE.format(name="m").replace("= 1", "= 1.000000000001"), False),
        (ONE.format(name="m") + 'provider = "p"\n', False),
        (ONE.format(name="m") + ONE.format(name="n"), False),
        ("service_tiers = { batch = 0.5 }\n" + ONE.format(name="m"), False),
        (ONE.format(name="m").replace("= 1", "= 1, from = 2026-01-01"), False),
    ],
)
def test_hash(text: str, same: bool) -> None:
    """The hash depends on a book's content, not on comments, order or notation."""
    hashes = {parse(ONE.format(name="m"), origin="a").hash, parse(text, origin="b").hash}

    assert same == (len(hashes) == 1)
    assert {12} == set(map(len, hashes))


def test_an_empty_book() -> None:
    """A book may be empty; it has no price for anything."""
    assert parse("", origin="x").find("m", NOW) is None


MODEL = '[[model]]\nname = "a"\nprovider = "p"\nunit = "token"\n'


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ("[" * 5_000 + "]" * 5_000, "it is nested too deep"),
        ("{ prompt_text = " + "9" * 5_000 + " }", "out of range"),
        ("{ prompt_text = 1e" + "9" * 30 + " }", "out of range"),
        ("[{ from = 0001-01-01T00:00:00+23:59, prompt_text = 1 }]", "out of range"),
        ("[{ from = 9999-12-31T23:59:59-23:59, prompt_text = 1 }]", "out of range"),
        ("{ prompt_text = '" + "9" * 5_000 + "' }", "must be a mistake"),
    ],
    ids=["deep", "digits", "exponent", "before all time", "after all time", "text"],
)
def test_an_invalid_book_is_refused_in_a_sentence(price: str, message: str) -> None:
    """A short one: the book may be malicious, or the output of a faulty script."""
    with pytest.raises(PriceBookError, match=message) as caught:
        parse(f"{MODEL}price = {price}\n", origin="book.toml")

    assert len(str(caught.value)) < 400
