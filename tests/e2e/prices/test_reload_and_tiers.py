"""Changes while workers run: the price book, and users' tiers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from birdfeed_sandbox.process import Sandbox
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import tiers_of as wire_tiers
from redis import Redis

from tests.support.events import enqueue, envelope, text
from tests.support.servers.system import System
from tests.support.wait import eventually

BOOK = '[[model]]\nname = "m"\nunit = "token"\nprice = {{ prompt_text = {rate} }}\n'
TIERS = {"alice": "flower", "bob": "nectar"}


@contextmanager
def system(valkey_url: str, sandbox: Sandbox, folder: Path, **settings: str) -> Iterator[System]:
    """A running worker with these settings."""
    with System(
        valkey_url, sandbox, folder, BIRDFEED_PRICE_FALLBACK="false", BIRDFEED_TIER_TIMEOUT="20", **settings
    ) as running:
        running.redis.flushall()
        yield running


def price_of_next(running: System, number: Iterator[int]) -> str:
    """Send one event; returns the rate it is priced by."""
    request_id = f"r{next(number)}"
    event = text(model="m", model_used=None, request_id=request_id)
    enqueue(running.redis, running.keys, [envelope(event)])
    running.drained()
    rows = running.sandbox.sql(f"SELECT price_rates FROM llm_events WHERE request_id = '{request_id}'")
    rate: str = json.loads(rows[0]["price_rates"])["prompt_text"]
    return rate


def test_a_new_price_book_needs_no_restart(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """The next events have the new price; with a broken file the old price is kept, with one line in the log."""
    book = tmp_path / "prices.toml"
    book.write_text(BOOK.format(rate="1"))
    number = iter(range(1000))
    with system(valkey_url, sandbox, tmp_path, BIRDFEED_PRICE_BOOK=str(book)) as running:
        pool = running.start_pool(1)
        assert price_of_next(running, number) == "1"

        book.write_text(BOOK.format(rate="2.5"))
        eventually(lambda: price_of_next(running, number) == "2.5", what="the new price")

        book.write_text(BOOK.format(rate="-1") + BOOK.format(rate="-2"))
        eventually(
            lambda: price_of_next(running, number) and "is invalid; the previous" in running.said(),
            what="the broken book",
        )
        assert price_of_next(running, number) == "2.5"

        book.write_text(BOOK.format(rate="7"))
        eventually(lambda: price_of_next(running, number) == "7", what="the mended price")

        lines = [line for line in running.said().splitlines() if "is invalid; the previous" in line]
        assert len(lines) == 1
        assert f"the previous one stays in use: {book}:4: m: price.prompt_text: a rate in USD must be" in lines[0]
        assert "(and 1 more; `birdfeed prices check` lists them all)" in lines[0]
        assert len(running.workers()) == 1
        assert pool.poll() is None


def tiers_of(running: System, users: dict[str, dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Send one event of each user; returns the tier and its source from the rows."""
    events = [envelope(text(request_id=name, **fields)) for name, fields in users.items()]
    enqueue(running.redis, running.keys, events)
    running.drained()
    rows = running.sandbox.sql("SELECT request_id, tier, tier_source FROM llm_events")
    return {row["request_id"]: (row["tier"], row["tier_source"]) for row in rows if row["request_id"] in users}


USERS = {
    "known": {"user": "alice"},
    "known, says nothing": {"user": "bob", "tier": ""},
    "says it": {"user": "alice", "tier": "seed"},
    "a stranger": {"user": "mallory"},
    "nobody": {},
}
EXPECTED = {
    "known": ("flower", "lookup"),
    "known, says nothing": ("nectar", "lookup"),
    "says it": ("seed", "event"),
    "a stranger": ("unknown", "none"),
    "nobody": ("anonymous", "none"),
}


def test_tiers_from_a_redis_hash(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """BIRDFEED_TIERS=redis:<hash key>."""
    with system(valkey_url, sandbox, tmp_path, BIRDFEED_TIERS="redis:user-tiers") as running:
        for user, tier in TIERS.items():
            running.redis.hset("user-tiers", user, tier)
        running.start_pool(1)

        assert tiers_of(running, USERS) == EXPECTED


def test_tiers_from_a_file(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """BIRDFEED_TIERS=file:<path>, which may change while workers run."""
    path = tmp_path / "tiers.json"
    path.write_text(json.dumps(TIERS))
    with system(valkey_url, sandbox, tmp_path, BIRDFEED_TIERS=f"file:{path}") as running:
        running.start_pool(1)
        assert tiers_of(running, USERS) == EXPECTED

        path.write_text(json.dumps({**TIERS, "mallory": "spore"}))
        looks = iter(range(1000))

        def seen() -> bool:
            name = f"later {next(looks)}"
            return tiers_of(running, {name: {"user": "mallory"}})[name] == ("spore", "lookup")

        eventually(seen, what="the new file's tier")


class AuthService(ThreadingHTTPServer):
    """An auth service: a request with a key and a user is answered {valid, userId, username, tier}."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False
        super().__init__(("127.0.0.1", 0), Answers)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        service = self.server
        assert isinstance(service, AuthService)
        asked = parse_qs(urlsplit(self.path).query)
        user = (asked.get("user") or asked.get("token") or [""])[0]
        service.asked.append(self.path)
        status = 200
        answer: dict[str, object] = {"valid": False}
        if service.down or asked.get("key") != ["k1"]:
            status, answer = 503, {"valid": True, "userId": user, "tier": "anonymous"}
        elif user in TIERS:
            answer = {"valid": True, "user_id": user, "username": user.title(), "tier": TIERS[user]}
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""


@pytest.fixture
def auth() -> Iterator[AuthService]:
    with AuthService() as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield service
        service.shutdown()
        thread.join()


def test_tiers_from_an_auth_service(valkey_url: str, sandbox: Sandbox, tmp_path: Path, auth: AuthService) -> None:
    """BIRDFEED_TIERS=<URL>: one request for each user; in an outage users have no tier."""
    auth.down = True
    with system(valkey_url, sandbox, tmp_path, BIRDFEED_TIERS=f"{auth.url}/check?key=k1") as running:
        running.start_pool(1)
        early = tiers_of(running, {"during the outage": {"user": "alice"}})
        assert early == {"during the outage": ("unknown", "none")}
        auth.down = False
        looks = iter(range(1000))

        def back() -> bool:
            name = f"after {next(looks)}"
            return tiers_of(running, {name: {"user": "alice"}})[name] == ("flower", "lookup")

        eventually(back, what="the service is asked again")
        auth.asked.clear()
        assert tiers_of(running, USERS) == EXPECTED
        assert tiers_of(running, {"again": {"user": "bob"}}) == {"again": ("nectar", "lookup")}

        assert sorted(auth.asked) == [f"/check?key=k1&user={user}" for user in ("bob", "mallory")]


def test_the_auth_services_own_parameter(auth: AuthService) -> None:
    """A parameter with the value {user} is how this service gets the user's name; failures are counted and logged."""
    told: list[tuple[str, int]] = []
    settings = WorkerSettings(tiers=f"{auth.url}/check?token={{user}}&key=k1")
    lookup = wire_tiers(settings, Redis(), on_failure=lambda reason, users: told.append((reason, users)))

    assert lookup.look_up(["bob", "mallory"]) == {"bob": "nectar"}
    assert sorted(auth.asked) == ["/check?key=k1&token=bob", "/check?key=k1&token=mallory"]
    eventually(lambda: told == [("no_tier", 1)], what="the failure is told")
