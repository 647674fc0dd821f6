"""Tokens: characters that no header can contain, and rotation through a file while requests run."""

from pathlib import Path

import httpx
import pytest
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.tokens import Token
from birdfeed_worker.wiring import append_token_of, read_token_of


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TINYBIRD_TOKEN", "TINYBIRD_TOKEN_FILE", "TINYBIRD_READ_TOKEN", "TINYBIRD_READ_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\u200b", r"U\+200B \(ZERO WIDTH SPACE\)"),
        ("\n", r"U\+000A \(a control character\)"),
        ("\x00", r"U\+0000"),
        (" ", r"U\+0020 \(SPACE\)"),
        ("\xe9", r"U\+00E9"),
    ],
)
@pytest.mark.parametrize("variable", ["TINYBIRD_TOKEN", "TINYBIRD_READ_TOKEN"])
@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_token_that_cannot_be_sent_is_a_settings_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, place: str, character: str, name: str
) -> None:
    """With the setting, the character and its position; never the token."""
    token = f"p.secret{character}half"
    if place == "file":
        (tmp_path / "token").write_text(token)
        monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "token"))
    elif character == "\x00":
        return  # no environment variable can contain one
    else:
        monkeypatch.setenv(variable, token)

    token_of = append_token_of if variable == "TINYBIRD_TOKEN" else read_token_of
    with pytest.raises(ConfigurationError, match=rf"{variable}.*character 9 of the token is {name}") as caught:
        token_of(WorkerSettings.load())

    assert "secret" not in str(caught.value)


def test_blanks_and_line_ends_around_a_token_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `echo` and editors add them."""
    (tmp_path / "token").write_text("p.read\r\n")
    monkeypatch.setenv("TINYBIRD_TOKEN", " p.append\n")
    monkeypatch.setenv("TINYBIRD_READ_TOKEN_FILE", str(tmp_path / "token"))
    settings = WorkerSettings.load()
    read = read_token_of(settings)

    assert append_token_of(settings).value == "p.append"
    assert read is not None
    assert (read.value, settings.has_read_token) == ("p.read", True)


@pytest.mark.parametrize(("content", "said"), [(None, "can't read"), ("", "is empty"), ("\n", "is empty")])
def test_a_file_without_a_token(tmp_path: Path, content: str | None, said: str) -> None:
    """Missing or empty: reported with its path."""
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigurationError, match=f"TINYBIRD_TOKEN_FILE: .*token.*{said}|{said}.*token"):
        Token("TINYBIRD_TOKEN_FILE", path=path)


def test_a_token_in_two_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error, not a guess."""
    monkeypatch.setenv("TINYBIRD_TOKEN", "p.a")
    monkeypatch.setenv("TINYBIRD_TOKEN_FILE", str(tmp_path / "token"))

    with pytest.raises(ConfigurationError, match="TINYBIRD_TOKEN and TINYBIRD_TOKEN_FILE are both set"):
        WorkerSettings.load()


class Store:
    """Accepts one token, and records those it got."""

    def __init__(self, good: str) -> None:
        self.good = good
        self.seen: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["authorization"].removeprefix("Bearer ")
        self.seen.append(token)
        if token != self.good:
            return httpx.Response(403, json={"error": f"invalid authentication token {token}"})
        return httpx.Response(200, json={"successful_rows": 1, "quarantined_rows": 0, "data": [], "meta": []})


def test_after_a_refused_token_the_file_is_read_again_and_the_request_repeated(tmp_path: Path) -> None:
    """Rotation without a restart: the worker gets only the good answer."""
    path = tmp_path / "token"
    path.write_text("old-token")
    store = Store("new-token")
    token = Token("TINYBIRD_TOKEN_FILE", path=path)
    with Tinybird("https://x", token, token, transport=httpx.MockTransport(store)) as tinybird:
        assert tinybird.append("llm_events", b"x").status == 403
        path.write_text("new-token\n")
        assert tinybird.append("llm_events", b"x").successful == 1
        assert tinybird.query("SELECT 1") == []
        store.good = "third-token"
        path.write_text("third-token")
        assert tinybird.query("SELECT 1") == []

        assert store.seen == [
            *["old-token"] * 2,
            *["new-token"] * 3,
            "third-token",
        ]
        assert tinybird.redact("old-token new-token third-token") == "[token] [token] [token]"


def test_a_token_that_stays_refused_is_not_sent_twice(tmp_path: Path) -> None:
    """Nor is one from the environment; a file that is missing for a moment changes nothing."""
    path = tmp_path / "token"
    path.write_text("old-token")
    store = Store("new-token")
    for token in (Token("TINYBIRD_TOKEN_FILE", path=path), Token("TINYBIRD_TOKEN", "old-token")):
        with Tinybird("https://x", token, None, transport=httpx.MockTransport(store)) as tinybird:
            told = tinybird.append("llm_events", b"x")
            assert (told.status, told.detail) == (403, "invalid authentication token [token]")
    path.unlink()
    assert not Token("TINYBIRD_TOKEN", "old-token").replaced("old-token")
    assert store.seen == ["old-token"] * 2
