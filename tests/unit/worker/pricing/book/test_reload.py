"""The books in use: checked at most once a second, replaced when the file changes, kept when it breaks."""

import os
from pathlib import Path

import pytest
from birdfeed_worker.pricing.book.book import PriceBookError
from birdfeed_worker.pricing.book.reload import BookSource

BOOK = '[[model]]\nname = "m"\nunit = "token"\nprice = {{ prompt_text = {rate} }}\n'


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class File:
    """An operator's book whose file date changes with every write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._date = 1_000_000_000
        self.write("1")

    def write(self, rate: str) -> None:
        self.path.write_text(BOOK.format(rate=rate), encoding="utf-8")
        self._date += 1
        os.utime(self.path, (self._date, self._date))


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "prices.toml")


def rate(source: BookSource) -> str:
    """The operator's rate in the books in use."""
    return str(source.current().layers[0].models["m"].price[0].prompt_text)


def told(caplog: pytest.LogCaptureFixture) -> int:
    """How often the log reported that the book is broken."""
    return caplog.text.count("the previous one stays in use")


def test_without_a_file_only_the_shipped_book_is_used() -> None:
    """No path, one layer."""
    source = BookSource()

    assert [layer.source for layer in source.current().layers] == ["book"]


def test_the_operators_book_has_priority(file: File) -> None:
    """Its entries, then the shipped ones."""
    assert [layer.source for layer in BookSource(file.path).current().layers] == ["operator", "book"]


def test_a_change_is_noticed_within_a_second(file: File) -> None:
    """Not sooner than a second after the last check, with any calls meanwhile."""
    clock = Clock()
    source = BookSource(file.path, clock)
    file.write("2")
    clock.now += 0.99
    before = rate(source)
    clock.now += 0.01

    assert (before, rate(source)) == ("1", "2")


def test_the_file_is_checked_once_a_second(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand batches in a second make one check."""
    clock = Clock()
    source = BookSource(file.path, clock)
    looks: list[object] = []
    real = os.stat

    def look(path: Path) -> os.stat_result:
        looks.append(path)
        return real(path)

    monkeypatch.setattr("birdfeed_worker.operator_files.os.stat", look)
    clock.now += 5
    for _ in range(1000):
        source.current()

    assert [file.path] == looks


def test_an_unchanged_file_keeps_the_same_books(file: File) -> None:
    """What is compiled stays compiled, also when the file is only touched."""
    clock = Clock()
    source = BookSource(file.path, clock)
    books = source.current()
    clock.now += 2
    file.write("1")

    assert books is source.current()


def test_a_broken_file_keeps_the_old_book_and_is_logged_once(file: File, caplog: pytest.LogCaptureFixture) -> None:
    """One clear error; the old prices; the new ones when it is fixed."""
    clock = Clock()
    source = BookSource(file.path, clock)
    file.write("-1")
    for _ in range(3):
        clock.now += 1
        assert rate(source) == "1"
    error = source.error
    file.write("2")
    clock.now += 1
    fixed = rate(source)

    assert (told(caplog), fixed, source.error) == (1, "2", None)
    assert "prices.toml:4: m: price.prompt_text" in str(error)


def test_a_file_that_was_deleted(file: File, caplog: pytest.LogCaptureFixture) -> None:
    """The same for a file that is deleted, and created again."""
    clock = Clock()
    source = BookSource(file.path, clock)
    file.path.unlink()
    for _ in range(3):
        clock.now += 1
        assert rate(source) == "1"
    file.write("5")
    clock.now += 1

    assert (told(caplog), rate(source)) == (1, "5")


def test_a_broken_file_at_the_start_is_an_error(file: File) -> None:
    """There is no old book to keep."""
    file.write("-1")

    with pytest.raises(PriceBookError, match="not -1"):
        BookSource(file.path)
