"""Access to the console: other hosts and sites get nothing, actions need the token and a form of the page."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from birdfeed_cli.app import app
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import console_token_of
from typer.testing import CliRunner

from tests.support.servers.console import TOKEN, form_key

if TYPE_CHECKING:
    from starlette.testclient import TestClient

Make = Callable[..., "TestClient"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost@evil.example:1"])
def test_another_host_gets_nothing(console: Make, host: str) -> None:
    """A page that points its own name at this machine (DNS rebinding)."""
    answer = console().get("/", headers={"Host": host})

    assert answer.status_code == 403
    assert "birdfeed is" not in answer.text


@pytest.mark.parametrize("host", ["localhost:9809", "127.0.0.1", "[::1]:9809", "10.0.0.5:80"])
def test_this_machine_is_served(console: Make, host: str) -> None:
    assert console().get("/healthz", headers={"Host": host, "Origin": f"http://{host}"}).text == "ok"


def test_another_site_gets_nothing(console: Make) -> None:
    """Neither with its own Origin, nor without an Origin for a change."""
    client = console(TOKEN)
    key = form_key(client.get("/").text)

    answers = [
        client.get("/", headers={"Origin": "http://evil.example"}),
        client.post("/sign-out", data={"form_key": key}, headers={"Origin": "http://evil.example"}),
        client.post("/sign-out", data={"form_key": key}, headers={"Origin": "null"}),
    ]
    del client.headers["Origin"]
    answers.append(client.post("/sign-out", data={"form_key": key}))

    assert [answer.status_code for answer in answers] == [403] * 4
    assert "birdfeed is" in client.get("/").text


def test_every_response_has_a_policy(console: Make) -> None:
    """Pages, static files, refusals: nothing is loaded from other hosts, framed, or cached."""
    client = console()
    for answer in (
        client.get("/"),
        client.get("/static/console.js"),
        client.get("/x"),
        client.get("/", headers={"Host": "x"}),
    ):
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Cache-Control"] == "no-store"


def test_with_a_token_every_page_needs_it(console: Make) -> None:
    """No page shows anything without it."""
    client = console(TOKEN, sign_in=False)

    asked, wrong = client.get("/"), client.post("/sign-in", data={"token": "not-the-token"})
    right = client.post("/sign-in", data={"token": f" {TOKEN}\n"}, follow_redirects=False)

    assert asked.url.path == "/sign-in"
    assert "birdfeed is" not in asked.text
    assert (wrong.status_code, "That is not the token." in wrong.text) == (403, True)
    assert "HttpOnly" in right.headers["set-cookie"]
    assert "SameSite=strict" in right.headers["set-cookie"]
    assert TOKEN not in right.headers["set-cookie"]
    assert "birdfeed is" in client.get("/").text


def test_signing_out(console: Make) -> None:
    """A form that the page did not make has no effect; after the page's own the cookie is invalid."""
    client = console(TOKEN)
    cookie = client.cookies["birdfeed_console"]

    forged = client.post("/sign-out", data={"form_key": "guess"})
    assert forged.status_code == 403
    client.post("/sign-out", data={"form_key": form_key(client.get("/").text)})
    client.cookies.set("birdfeed_console", cookie)

    assert client.get("/").url.path == "/sign-in"


def test_a_sign_in_expires() -> None:
    """After twelve hours; and the hundred-and-first removes the oldest."""
    from birdfeed_cli.console.access import COOKIE, SIGNED_IN_SECONDS, Access
    from starlette.requests import Request

    clock = [0.0]
    access = Access(TOKEN, lambda: clock[0])

    def known(name: str | None) -> bool:
        cookie = f"{COOKIE}={name}".encode()
        return access.session(Request({"type": "http", "headers": [(b"cookie", cookie)]})) is not None

    names = [access.sign_in(TOKEN) for _ in range(101)]

    assert [known(name) for name in (names[0], names[1], names[-1])] == [False, True, True]
    clock[0] = SIGNED_IN_SECONDS
    assert not known(names[-1])


def test_a_form_that_is_too_long(console: Make) -> None:
    assert console(TOKEN, sign_in=False).post("/sign-in", data={"token": "x" * 100_001}).status_code == 413


def test_other_machines_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that other machines can reach needs one; the message says what to set."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.delenv("BIRDFEED_CONSOLE_TOKEN", raising=False)

    found = CliRunner().invoke(app, ["console", "--host", "0.0.0.0"])

    assert found.exit_code == 2
    assert "set BIRDFEED_CONSOLE_TOKEN" in found.stderr


def test_the_token_from_a_file(tmp_path: Path) -> None:
    """Without the line end; a token that is too short is refused, and so are two tokens."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    assert console_token_of(WorkerSettings(console_token_file=path)) == TOKEN

    path.write_text("short")
    with pytest.raises(ConfigurationError, match="shorter than 16"):
        console_token_of(WorkerSettings(console_token_file=path))
    with pytest.raises(ValueError, match="are both set"):
        WorkerSettings(console_token_file=path, console_token=TOKEN)
