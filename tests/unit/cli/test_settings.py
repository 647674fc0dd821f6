"""Settings as people set them: empty variables, secrets in URLs, invalid hosts."""

import os
import subprocess
import sys

import pytest
from birdfeed.settings import ProducerSettings
from birdfeed_cli.setup.settings import current
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.settings import WorkerSettings
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def nobodys(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Without environment variables and .env."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    for name in list(os.environ):
        if name.startswith(("BIRDFEED_", "TINYBIRD_")) or name == "REDIS_URL":
            monkeypatch.delenv(name)


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass an unset variable as an empty text; it must not hide one that is set."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "")
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/1")
    monkeypatch.setenv("BIRDFEED_PROCESSES", "")

    assert ProducerSettings().redis_url_text == "redis://elsewhere:6379/1"
    assert WorkerSettings.load().processes == 2
    [shown] = [one for one in current() if "REDIS_URL" in one.names]
    assert (shown.value, shown.source) == ("redis://elsewhere:6379/1", "environment: REDIS_URL")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also passwords and keys in URLs."""
    secrets = {
        "BIRDFEED_REDIS_URL": "redis://user:secret@host:6379/0?password=secret",
        "TINYBIRD_TOKEN": "secret",
        "TINYBIRD_READ_TOKEN": "secret",
        "BIRDFEED_TIERS": "https://user:secret@auth.example/t?key=secret&token={user}",
        "BIRDFEED_USER_HMAC_KEY": "secret",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)

    shown = {one.names[0]: one.value for one in current()}

    assert not [name for name, value in shown.items() if "secret" in value]
    assert shown["BIRDFEED_TIERS"] == "https://***@auth.example/t?***"
    assert shown["BIRDFEED_REDIS_URL"] == "redis://***@host:6379/0?***"


@pytest.mark.parametrize(
    "host",
    [
        "https://user:secret@api.tinybird.co",
        "https://api.tinybird.co/v0/events",
        "https://api.tinybird.co?token=secret",
        "https://api.tinybird.co:99999",
        "https://",
        "api.tinybird.co",
        "http://api.tinybird.co",
    ],
)
def test_a_host_is_scheme_and_host(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Reported immediately, with an example, without its possible secrets."""
    monkeypatch.setenv("TINYBIRD_HOST", host)

    with pytest.raises(ConfigurationError, match="TINYBIRD_HOST") as raised:
        WorkerSettings.load()

    assert "secret" not in str(raised.value)


def test_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a region, with or without a slash, and this machine's."""
    for host in ("https://api.us-east.tinybird.co", "https://api.us-east.tinybird.co/", "http://127.0.0.1:7181"):
        monkeypatch.setenv("TINYBIRD_HOST", host)
        assert WorkerSettings.load().host == host.rstrip("/")


def test_a_terminal_that_lacks_a_character() -> None:
    """Latin-1, or Python's C locale: it is printed escaped; commands ended with a traceback."""
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "BIRDFEED_PROJECT": "caf\u00e9 \u6a21\u578b"}

    run = [sys.executable, "-m", "birdfeed_cli", "settings"]
    done = subprocess.run(run, env=environment, capture_output=True, check=True)

    assert "caf\u00e9 \\u6a21\\u578b".encode("latin-1") in done.stdout


NUMBERS = sorted(name for name, field in WorkerSettings.model_fields.items() if field.annotation in (int, float))


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("number", ["1e30", "inf", "nan", "-1", "9" * 300])
def test_a_mistyped_number_is_refused(name: str, number: str) -> None:
    """A million worker processes took a machine down, and a wait of 1e30 s ended workers with a traceback."""
    with pytest.raises(ValidationError):
        WorkerSettings.model_validate({name: number})
