"""Files that operators keep, read within bounds."""

from pathlib import Path

import pytest
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.operator_files import read_text
from birdfeed_worker.pricing.book import book
from birdfeed_worker.tiers import sources
from birdfeed_worker.tinybird.tokens import MAX_TOKEN, Token


def test_a_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("\N{GRINNING FACE}" * 5)

    assert read_text(tmp_path / "file", 5) == "\N{GRINNING FACE}" * 5
    with pytest.raises(ValueError, match="it has more than 4 characters"):
        read_text(tmp_path / "file", 4)


def test_a_path_of_something_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's start read it for ever, into memory."""
    monkeypatch.setattr(sources, "MAX_TIERS", 1_000)
    monkeypatch.setattr(book, "MAX_BOOK", 1_000)
    endless = tmp_path / "endless.csv"
    endless.symlink_to("/dev/zero")

    with pytest.raises(ConfigurationError, match=f"TINYBIRD_TOKEN_FILE.*more than {MAX_TOKEN:,} characters"):
        Token("TINYBIRD_TOKEN_FILE", path=endless)
    with pytest.raises(ConfigurationError, match="more than 1,000 characters"):
        sources.read_tiers(endless)
    with pytest.raises(book.PriceBookError, match="can't be read: it has more than 1,000 characters"):
        book.load(endless)
