"""Sources of tiers: a Redis hash, an auth service, a file."""

import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tiers.sources import AuthServiceTiers, FileTiers, RedisTiers, read_tiers
from birdfeed_worker.wiring import tiers_of
from fakeredis import FakeRedis


@pytest.mark.parametrize("decode", [False, True])
def test_redis(decode: bool) -> None:
    """One HMGET for all; a user who isn't in the hash has none; the client may decode or not."""
    client = fakeredis.FakeRedis(decode_responses=decode)
    client.hset("tiers", mapping={"a": "seed", "b": " spore ", "c": ""})

    assert list(RedisTiers(client, "tiers").answers(["a", "b", "c", "d"])) == [
        ("a", "seed"),
        ("b", "spore"),
        ("c", None),
        ("d", None),
    ]


def test_redis_is_read_once() -> None:
    """500 users are one round trip."""

    class Client:
        calls = 0

        def hmget(self, name: str, keys: list[str]) -> Any:
            self.calls += 1
            return [None] * len(keys)

    client: Any = Client()
    list(RedisTiers(client, "tiers").answers({f"u{number}" for number in range(500)}))

    assert client.calls == 1


def test_redis_errors_are_raised() -> None:
    """The lookup decides how to handle a failure."""

    class Client:
        def hmget(self, name: str, keys: list[str]) -> Any:
            raise ConnectionError

    client: Any = Client()
    with pytest.raises(ConnectionError):
        list(RedisTiers(client, "tiers").answers(["a"]))


Answer = tuple[int, object]


def auth(answers: Mapping[str, Answer | Exception], asked_by: Any = "user") -> AuthServiceTiers:
    """A service that answers each user as given; asserts that each request has one parameter."""

    def fetch(parameters: Mapping[str, str]) -> Answer:
        assert [asked_by] == list(parameters)
        answer = answers[parameters[asked_by]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return AuthServiceTiers(fetch, asked_by)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((200, {"valid": True, "userId": "u", "username": "n", "tier": "seed"}), [("u", "seed")]),
        ((200, {"valid": True, "user_id": "u", "tier": " seed "}), [("u", "seed")]),
        ((200, {"valid": True, "tier": "seed"}), [("u", "seed")]),
        ((200, {"valid": False}), [("u", None)]),
        ((200, {"valid": False, "tier": "seed"}), [("u", None)]),
        ((404, None), [("u", None)]),
        ((200, {"valid": True, "userId": "u"}), [("u", None)]),
        ((200, {"valid": True, "userId": "u", "tier": None}), [("u", None)]),
        ((200, {"valid": True, "userId": "u", "tier": ""}), [("u", None)]),
        ((200, {"valid": True, "userId": "somebody-else", "tier": "seed"}), []),
        ((200, {"tier": "seed"}), []),
        ((200, {"valid": "yes", "tier": "seed"}), []),
        ((200, None), []),
        ((200, ["seed"]), []),
        ((200, "seed"), []),
        ((401, {"valid": False}), []),
        ((429, {"valid": True, "tier": "seed"}), []),
        ((500, None), []),
        ((503, {"valid": True, "tier": "seed"}), []),
        (TimeoutError(), []),
    ],
)
def test_auth_service(answer: Answer | Exception, expected: list[tuple[str, str | None]]) -> None:
    """A tier, no tier, or no answer: three different results."""
    assert expected == list(auth({"u": answer}).answers(["u"]))


@pytest.mark.parametrize("asked_by", ["token", "referrer"])
def test_auth_service_by_token_or_referrer(asked_by: str) -> None:
    """The answer is about the owner of the token or referrer."""
    service = auth({"t-1": (200, {"valid": True, "userId": "u", "tier": "seed"})}, asked_by)

    assert list(service.answers(["t-1"])) == [("t-1", "seed")]


def test_auth_service_has_several_concurrent_requests() -> None:
    """Each answer is used when it arrives: a user whose request hangs delays no other."""
    gate = threading.Event()

    def fetch(parameters: Mapping[str, str]) -> Answer:
        if parameters["user"] == "slow":
            assert gate.wait(10)
        return 200, {"valid": True, "tier": "seed"}

    answers = AuthServiceTiers(fetch).answers(["slow", "a", "b"])
    first = {next(iter(answers))[0] for answers in [iter(answers)] for _ in range(1)}
    gate.set()

    assert first <= {"a", "b"}
    assert {"slow", "a", "b"} - first == {user for user, _ in answers}


def test_auth_service_failures_are_logged_without_users(caplog: pytest.LogCaptureFixture) -> None:
    """The status, not the user or the token."""
    with caplog.at_level(logging.WARNING):
        list(auth({"secret-token": (500, None)}, "token").answers(["secret-token"]))

    assert "HTTP 500" in caplog.text
    assert "secret-token" not in caplog.text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", '{"a": "seed", "b": " spore "}'),
        ("t.toml", 'a = "seed"\nb = "spore"\n'),
        ("t.csv", "user,tier\na,seed\nb,spore\n"),
        ("t.csv", "a,seed\n\nb,spore\n"),
        ("T.CSV", '"a",seed\r\nb,spore\r\n'),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    """JSON, TOML or CSV, by the file's name."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    assert read_tiers(path) == {"a": "seed", "b": "spore"}
    assert FileTiers(path).look_up(["a", "x"]) == {"a": "seed"}


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("t.json", "{", "Expecting"),
        ("t.json", '["a"]', "contains only user = tier"),
        ("t.json", '{"a": 5}', "contains only user = tier"),
        ("t.json", '{"a": ""}', "contains only user = tier"),
        ("t.toml", "[a]\nb = 1\n", "contains only user = tier"),
        ("t.toml", "a = \n", "Invalid value"),
        ("t.csv", "a,seed\nb\n", "line 2 has 1 columns"),
        ("t.txt", "a seed", "is .json, .toml or .csv, not '.txt'"),
        ("t", "a seed", "is .json, .toml or .csv, not ''"),
    ],
)
def test_invalid_files(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """Reported with the file's name and the fault."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigurationError, match=reason):
        FileTiers(path)


def test_a_missing_file(tmp_path: Path) -> None:
    """An error at the start."""
    with pytest.raises(ConfigurationError, match="No such file"):
        FileTiers(tmp_path / "none.json")


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Checked once a second; a broken one doesn't change the tiers, and is logged once."""
    now = [0.0]
    path = tmp_path / "t.json"
    tiers: list[Mapping[str, str]] = []

    def step(text: str | None) -> None:
        if text is not None:
            path.write_text(text, encoding="utf-8")
            os.utime(path, (1_000_000_000 + len(tiers),) * 2)
        tiers.append(file.look_up(["a"]))
        now[0] += 1

    path.write_text('{"a": "seed"}', encoding="utf-8")
    file = FileTiers(path, lambda: now[0])
    for text in ('{"a": "spore"}', None, "broken", None, '{"a": "flower"}'):
        step(text)
    path.unlink()
    step(None)
    step(None)

    assert [answer["a"] for answer in tiers] == ["seed", "spore", "spore", "spore", "flower", "flower", "flower"]
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tiers.json", '{"a": ' + "[" * 100_000),
        ("tiers.json", '{"a": ' + "9" * 5_000 + "}"),
        ("tiers.toml", "a = " + "[" * 5_000 + "]" * 5_000),
        ("tiers.toml", "a = " + "9" * 5_000),
    ],
    ids=["deep json", "long number in json", "deep toml", "long number in toml"],
)
def test_a_file_that_is_too_large_is_one_sentence(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        read_tiers(path)

    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 200


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("http://auth.example/check", "use https"),
        ("HTTP://auth.example/check", "use https"),
        ("http://user:hunter2@127.0.0.1.example/check?key=hunter2", "use https"),
        ("ldap://user:hunter2@auth.example", "must be redis"),
        ("user:hunter2", "must be redis"),
    ],
)
def test_tiers_are_not_requested_without_tls(where: str, message: str) -> None:
    """Others could read users' names and tokens in transit; the error doesn't contain the secrets."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        tiers_of(WorkerSettings(tiers=where), FakeRedis())

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "where", ["http://127.0.0.1:1/check", "http://localhost/", "http://[::1]/", "https://auth.example/"]
)
def test_tiers_are_requested_over_tls_or_on_this_machine(where: str) -> None:
    tiers_of(WorkerSettings(tiers=where), FakeRedis())
