"""A bill compared with the store: which rows belong to a line, what agrees, and what explains a difference."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from birdfeed_worker.operations.invoice.bill import Bill, Billed
from birdfeed_worker.operations.invoice.compare import Line, compare
from birdfeed_worker.operations.invoice.stored import DAYS_AT_ONCE, Booked, windows

DAY = date(2026, 11, 20)
NEXT = date(2026, 11, 21)
PERCENT = Decimal("0.01")


def billed(model: str, cost: str | None = "1", day: date = DAY, **counts: Any) -> Billed:
    return Billed(day=day, model=model, cost=None if cost is None else Decimal(cost), **counts)


def booked(model: str, cost: str = "1", status: str = "priced", day: date = DAY, **fields: Any) -> Booked:
    values: dict[str, Any] = {"provider": "openai", "events": 1, **fields}
    return Booked(day=day, model=model, status=status, cost=Decimal(cost), **values)


def bill(*lines: Billed) -> Bill:
    return Bill(lines=lines, provider="openai", passed_over=0)


def only(*rows: Booked, line: Billed | None = None, provider: str = "openai") -> Line:
    [found] = compare(bill(line or billed("gpt-4o")), rows, provider).lines
    return found


@pytest.mark.parametrize(
    ("on_the_bill", "in_the_store"),
    [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o", "gpt-4o-2024-08-06"),
        ("gpt-4o-2024-08-06", "gpt-4o-20240806"),
        ("GPT-4o", "openai/gpt-4o"),
        ("Claude Haiku 4.5", "claude-haiku-4-5-20251001"),
        ("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet-20241022"),
        ("claude-haiku-4-5", "anthropic/claude-haiku-4.5"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5@20250929"),
    ],
)
def test_names_of_one_model(on_the_bill: str, in_the_store: str) -> None:
    """Prefixes, dates, case and separators make no difference."""
    line = only(booked(in_the_store), line=billed(on_the_bill))

    assert (line.model, line.booked_as, line.difference) == (on_the_bill, {in_the_store}, Decimal(0))


def test_versions_are_separate_if_both_have_them() -> None:
    """And together if one side doesn't have the version."""
    two = bill(billed("gpt-4o-2024-05-13", "5"), billed("gpt-4o-2024-08-06", "1"))
    apart = compare(two, [booked("gpt-4o-2024-05-13", "5"), booked("gpt-4o-2024-08-06", "1")], "openai")
    together = compare(two, [booked("gpt-4o-2024-05-13", "5"), booked("gpt-4o", "1")], "openai")

    assert [(line.model, line.difference) for line in apart.lines] == [
        ("gpt-4o-2024-05-13", Decimal(0)),
        ("gpt-4o-2024-08-06", Decimal(0)),
    ]
    assert [(line.difference, line.booked_as) for line in together.lines] == [
        (Decimal(0), {"gpt-4o-2024-05-13", "gpt-4o"})
    ]


def test_days_are_separate() -> None:
    """A row counts on its own day."""
    found = compare(bill(billed("m"), billed("m", day=NEXT)), [booked("m"), booked("m", "3", day=NEXT)], "")

    assert [(line.day, line.difference) for line in found.lines] == [(DAY, Decimal(0)), (NEXT, Decimal(2))]


def test_a_bill_that_names_no_models() -> None:
    """All rows of a day are one line."""
    [line] = compare(bill(billed("", "3")), [booked("a"), booked("b", "2")], "").lines

    assert (line.model, line.difference, line.booked_as) == ("", Decimal(0), {"a", "b"})


@pytest.mark.parametrize(
    ("theirs", "ours", "agrees"),
    [
        ("100", "100.99", True),
        ("100", "101.01", False),
        ("100", "98.9", False),
        ("0.01", "0.02", True),
        ("0", "0.02", False),
    ],
)
def test_the_tolerance(theirs: str, ours: str, agrees: bool) -> None:
    """A share of the bill, but at least a cent."""
    assert only(booked("gpt-4o", ours), line=billed("gpt-4o", theirs)).agrees(PERCENT, by_cost=True) is agrees


def test_a_bill_of_counts() -> None:
    """Without costs, tokens in and out and requests must agree."""
    row = booked("gpt-4o", prompt=100, completion=50, events=3)

    def agrees(**counts: Any) -> bool:
        return only(row, line=billed("gpt-4o", None, **counts)).agrees(PERCENT, by_cost=False)

    assert agrees(prompt=100, completion=50, requests=3)
    assert agrees(tokens=151)
    assert not agrees(prompt=150, completion=0)
    assert not agrees(tokens=160)
    assert not agrees(prompt=100, completion=50, requests=4)
    assert not only(line=billed("gpt-4o", None, requests=1)).agrees(PERCENT, by_cost=False)


REASONS: dict[str, tuple[list[Booked], dict[str, Any], str]] = {
    "unpriced": ([booked("gpt-4o", "0", "unpriced", events=3)], {}, "3 events unpriced, so they count as 0"),
    "no usage": ([booked("gpt-4o", "0", "no_usage")], {}, "1 event without usage, so they count as 0"),
    "partial": ([booked("gpt-4o", "0.5", "partial", events=2)], {}, "2 events partial, so the booked cost is too low"),
    "estimated": ([booked("gpt-4o", "2", "estimated")], {}, "1 event estimated: the booked cost may be too low or too"),
    "dead": ([booked("gpt-4o", "0.75", "dead", events=9)], {}, "9 events dead, worth 0.75 USD: `birdfeed dead list`"),
    "missing": ([], {}, "missing: no row and no dead event of it on this day"),
    "requests missing": (
        [booked("gpt-4o", "0.5", events=4), booked("gpt-4o", status="dead")],
        {"requests": 8},
        "missing: 3 requests neither in the store nor dead",
    ),
    "tokens missing": (
        [booked("gpt-4o", "0.5", prompt=50)],
        {"prompt": 90, "completion": 10},
        "missing: 50 tokens neither in the store nor dead",
    ),
    "tokens too many": (
        [booked("gpt-4o", "9", prompt=50)],
        {"tokens": 10},
        "the store has 40 more tokens than the bill",
    ),
    "another provider's": (
        [booked("gpt-4o", "7", provider="azure-openai", events=1200)],
        {},
        "events of this model that are booked for another provider: 1,200 for azure-openai",
    ),
    "rates": (
        [booked("gpt-4o", "2", prompt=50)],
        {"prompt": 50, "completion": 0},
        "the counts agree, so the rates differ",
    ),
    "unknown": ([booked("gpt-4o", "2")], {}, "every row is priced: other rates"),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reasons_for_a_difference(name: str) -> None:
    """By status, then what is missing; and possible reasons if nothing explains it."""
    rows, counts, expected = REASONS[name]

    line = only(*rows, line=billed("gpt-4o", **counts))

    assert not line.agrees(PERCENT, by_cost=True)
    assert [reason for reason in line.why(PERCENT) if expected in reason] != [], line.why(PERCENT)
    if name != "another provider's":
        assert name == "unknown" or not any("every row is priced" in reason for reason in line.why(PERCENT))


def test_what_is_not_in_the_bill() -> None:
    """A model that is only in the store has its own line."""
    found = compare(bill(billed("gpt-4o")), [booked("gpt-4o"), booked("o3", "4")], "openai")

    [other] = found.differing(PERCENT)
    assert (other.model, other.billed, other.why(PERCENT)) == (
        "o3",
        None,
        ["not on the bill: it may belong to another account or another provider"],
    )
    assert (found.billed, found.booked) == (Decimal(1), Decimal(5))


def test_what_is_not_compared() -> None:
    """Cache hits were never sent to the provider; rows of other families are counted by name.

    Rows without a provider belong to the bill.
    """
    rows = [
        booked("gpt-4o", "0", "cache_hit", events=50, prompt=5),
        booked("gpt-4o", "0.25", provider="unknown"),
        booked("gpt-4o", "0.75", provider="openai-responses"),
        booked("gpt-4o", "7", provider="azure", events=2),
        booked("o3", "7", provider="azure", events=3),
        booked("o3", "7", "dead", provider="azure", events=3),
    ]
    found = compare(bill(billed("gpt-4o")), rows, "openai")

    [line] = found.lines
    assert (line.difference, line.events, line.elsewhere) == (Decimal(0), 2, {"azure": 2})
    assert found.left_out == {"azure": 5}
    assert len(compare(bill(billed("gpt-4o")), rows, "").lines) == 2


def test_queries_by_day() -> None:
    """Every day once, including the last one."""
    first, last = date(2026, 2, 25), date(2026, 3, 31)
    parts = list(windows(first, last))

    assert parts[0][0] == first
    assert (parts[-1][1] - last).days == 1
    assert [end for _, end in parts[:-1]] == [start for start, _ in parts[1:]]
    assert {(end - start).days for start, end in parts} == {DAYS_AT_ONCE}
