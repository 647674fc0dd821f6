"""Values in Redis's answers, read strictly."""

import pytest
from birdfeed_worker.queue.reply import EARLIEST, LATEST, MAX_NAME, as_name, as_text, epoch, number, pairs, real, whole


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 7),
        (b"", 7),
        (b"0", 0),
        ("12", 12),
        (b"100", 100),
        (b"101", 7),
        (b"-1", 7),
        (b"1.0", 7),
        ("\N{ARABIC-INDIC DIGIT ONE}", 7),
    ],
)
def test_a_count(value: bytes | str | None, expected: int) -> None:
    """The default if it is missing, is not a count, or is above the maximum."""
    assert number(value, 7, most=100) == expected


def test_the_longest_count() -> None:
    """Fifteen digits: no more are exact in a script."""
    assert number(b"9" * 15, 7) == 10**15 - 1
    assert number(b"0" * 16, 7) == 7
    assert number(b"9" * 15, 7, 10**16) == 10**15 - 1


@pytest.mark.parametrize(("value", "expected"), [(b"-3", -3), ("4", 4), (b"x", 0), (b"1.5", 0)])
def test_a_count_that_may_be_below_0(value: bytes | str, expected: int) -> None:
    """0 if it is not one."""
    assert whole(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"1", 1.0),
        (b"2.5", 2.5),
        (b"3", 3.0),
        (b"0.9", None),
        (b"3.1", None),
        (b"nan", None),
        (None, None),
        (b"x", None),
    ],
)
def test_a_number_in_a_range(value: bytes | None, expected: float | None) -> None:
    """Including its ends."""
    assert real(value, 1.0, 3.0) == expected


def test_a_time() -> None:
    """Between 2001 and 2096."""
    assert (epoch(str(EARLIEST)), epoch(str(LATEST))) == (EARLIEST, LATEST)
    assert (epoch(b"999999999"), epoch(b"4000000001"), epoch(b"inf")) == (None, None, None)


def test_a_name() -> None:
    """Without line ends, and not longer than a name."""
    assert as_name(None, "unknown") == "unknown"
    assert as_name(b"a\nb\x1b", "") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    assert as_name("x" * (MAX_NAME + 1), "") == "x" * MAX_NAME


def test_text() -> None:
    """Bytes that are not UTF-8 are escaped."""
    assert (as_text("a"), as_text(b"\xc3\xbc"), as_text(b"a\xff")) == ("a", "\u00fc", "a\N{REPLACEMENT CHARACTER}")


def test_pairs() -> None:
    """Names and values; a list of odd length is invalid."""
    assert list(pairs([b"a", 1, b"b", 2])) == [(b"a", 1), (b"b", 2)]
    with pytest.raises(ValueError, match="zip"):
        list(pairs([b"a", 1, b"b"]))
