"""Times on the command line."""

from datetime import UTC, datetime

import pytest
import typer
from birdfeed_cli.common.options import moment

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", "2026-11-23T11:30:00+00:00"),
        ("24h", "2026-11-22T12:00:00+00:00"),
        (" 7D ", "2026-11-16T12:00:00+00:00"),
        ("2w", "2026-11-09T12:00:00+00:00"),
        ("2026-01-31", "2026-01-31T00:00:00+00:00"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00+00:00"),
    ],
)
def test_valid_times(text: str, expected: str) -> None:
    """A time ago, or ISO 8601; UTC by default."""
    assert moment(text, NOON).isoformat() == expected


@pytest.mark.parametrize("text", ["", "soon", "7", "7y", "-1d", "2026", "2026-13-01", "nan", "zz"])
def test_invalid_times(text: str) -> None:
    """A bare number is ambiguous. The error has the argument, and what to write instead."""
    with pytest.raises(typer.BadParameter, match=r"is not a time; write 30m, 24h") as caught:
        moment(text, NOON)
    assert str(caught.value).startswith(repr(text))


@pytest.mark.parametrize("text", ["999999w", "999999d"])
def test_times_before_the_calendar_begins(text: str) -> None:
    """They ended commands with a traceback."""
    with pytest.raises(typer.BadParameter, match="before the year 1; write 30m, 24h"):
        moment(text, NOON)
