"""Settings read without pydantic equal those that pydantic reads; a wrong one is named and not quoted."""

from pathlib import Path
from typing import Any

import pytest
from birdfeed.errors import ConfigurationError
from birdfeed.logging_once import forget
from birdfeed.options import Options, default_spool_directory, option_names, options_from, variables_of
from birdfeed.settings import ProducerSettings
from birdfeed_schemas.safety.redis_url import checked_redis_url
from birdfeed_schemas.safety.urls import shown
from pydantic import ValidationError

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the settings of this environment."""
    for name in option_names():
        for variable in variables_of(name):
            monkeypatch.delenv(variable, raising=False)


def both(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> tuple[Options | None, Options | None]:
    """What each of the two reads; None for an error."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    try:
        plain = options_from(environment)
    except ConfigurationError:
        plain = None
    try:
        validated = ProducerSettings().options()
    except ValidationError:
        validated = None
    return plain, validated


def test_the_names_are_those_of_the_model() -> None:
    """Both read every setting."""
    assert set(option_names()) == set(ProducerSettings.model_fields)


def test_the_defaults_are_those_of_the_model() -> None:
    """With no variable set."""
    assert options_from({}) == ProducerSettings().options() == Options()


VALUES = {
    "redis_url": ["redis://h:1/0", "REDIS://h/3", " redis://h ", "mysql://h", "redis://h/x", "redis://h:p", "h"],
    "queue": ["q-1.x", "a b", "ü"],
    "key_prefix": ["rq:{a}", "a b"],
    "extra_fields": ["a, b", "a;b"],
    "hmac_fields": ["user,organization", "a;b"],
    "spool_dir": ["/tmp/x"],
    "user_hmac_key": ["k"],
    "sample": ["a=0.1, b=1", "a=0", "a=2", "a", "=1", "a=b", "a=nan", ",", "a=b=.5"],
    **{
        name: ["true", "0", "Yes", "off", "maybe", "2"]
        for name in ("enabled", "keep_traceback", "sigterm_hook", "sample_errors")
    },
    "drop_policy": ["oldest", "Newest"],
    "durability": ["spool", "disk"],
    "error_message": ["full", "none", "some"],
    "referrer": ["path", "all"],
}
NUMBERS = ["-1", "0", "1", "9", "10", "0.5", "99", "600", "1e3", "nan", "inf", "many", " 700 ", "5001", "3601", "10001"]


@pytest.mark.parametrize("name", list(option_names()))
def test_both_ways_read_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good and bad values of every setting; both accept it, with the same result, or both refuse it."""
    for value in VALUES.get(name, NUMBERS):
        plain, validated = both(monkeypatch, {variables_of(name)[0]: value})
        assert plain == validated, value


def test_a_wrong_setting_is_named_and_never_quoted() -> None:
    """All wrong ones at once; values may be secret."""
    with pytest.raises(ConfigurationError) as told:
        options_from({"BIRDFEED_REDIS_URL": f"redis://:{SECRET}/@h", "BIRDFEED_FLUSH_INTERVAL": SECRET})
    assert "BIRDFEED_REDIS_URL" in str(told.value)
    assert "BIRDFEED_FLUSH_INTERVAL" in str(told.value)
    assert SECRET not in str(told.value)


def test_variables_in_another_locale() -> None:
    """As Python reads bytes that its locale doesn't have; every event was dropped, or hashed by another key."""
    surrogates = "\u043a\u043b\u044e\u0447".encode().decode("ascii", "surrogateescape")

    options = options_from({"BIRDFEED_USER_HMAC_KEY": surrogates, "BIRDFEED_SPOOL_DIR": surrogates})

    assert options.user_hmac_key == "\u043a\u043b\u044e\u0447"
    assert str(options.spool_dir) == surrogates
    with pytest.raises(ConfigurationError, match="BIRDFEED_PROJECT: must be UTF-8 text"):
        options_from({"BIRDFEED_PROJECT": b"caf\xe9".decode("ascii", "surrogateescape")})


def test_the_same_bytes_are_the_same_key_in_latin_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python decodes each byte to a character there: one user would have had two pseudonyms."""
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("latin-1"))

    options = options_from({"BIRDFEED_USER_HMAC_KEY": "\u043a\u043b\u044e\u0447".encode().decode("latin-1")})

    assert options.user_hmac_key == "\u043a\u043b\u044e\u0447"


@pytest.mark.parametrize("state", ["", "relative", "./here"])
def test_a_relative_state_directory_is_ignored(state: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As its specification says: it would be another directory after each change of the working directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", state)

    assert default_spool_directory() == tmp_path / ".local" / "state" / "birdfeed"


def test_empty_variables_count_as_not_set() -> None:
    """Compose files pass an unset variable as an empty text; and the source of the URL is named."""
    options = options_from({"BIRDFEED_REDIS_URL": "", "REDIS_URL": "redis://h/1", "BIRDFEED_QUEUE": ""})

    assert (options.redis_url, options.redis_source, options.queue) == ("redis://h/1", "REDIS_URL", "birdfeed")


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://:pa%2Fss@h:6379/0",
        "rediss://user:p@h:6379/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=2",
        "redis+sentinel://:p@a:1,b:2/service/3?sentinel_username=u&ssl=true",
        "redis://[::1]:6379/0",
    ],
)
def test_a_good_url_is_accepted(url: str) -> None:
    """Unchanged."""
    assert checked_redis_url(url) == url
    assert SECRET not in shown(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "starts with"),
        ("localhost:6379", "starts with"),
        ("http://h", "starts with"),
        ("redis://h/notanumber", "is not a number"),
        ("redis://h/1/2", "is not a number"),
        ("redis://h?db=x", "is not a number"),
        ("redis://h:port", "host or port"),
        ("redis://h:99999", "its port"),
        ("redis://h?nonsense=1", "unknown"),
        (f"redis://:{SECRET}/{SECRET}@h:6379/0", "%2F"),
        (f"redis://:{SECRET}#{SECRET}@h:6379/0", "%2F"),
        (f"redis://:{SECRET}?{SECRET}@h:6379/0", "%2F"),
        (f"redis://:{SECRET}@{SECRET}@h:6379/0", "%2F"),
        (f"redis://[{SECRET}", "host or port"),
        ("unix://", "socket"),
        ("redis+sentinel://h", "Sentinel"),
    ],
)
def test_an_invalid_url_is_reported_without_quoting_it(url: str, why: str) -> None:
    """Such URLs gave db 0, "Redis is away", or off without a reason; and parts of the password were logged."""
    with pytest.raises(ValueError, match=r"(?i)url") as told:
        checked_redis_url(url)
    assert why in str(told.value)
    assert SECRET not in str(told.value)


def test_secrets_are_not_shown() -> None:
    """Neither in a traceback nor in a log."""
    shown: Any = repr(Options(redis_url=f"redis://:{SECRET}@h", user_hmac_key=SECRET))

    assert SECRET not in shown


def test_a_misspelt_variable_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """At the first event if the program doesn't call configure(); a worker's variable is not misspelt."""
    forget()
    options_from({"BIRDFEED_FLUSH_INTERVALL": SECRET, "BIRDFEED_PROCESSES": "4"})

    assert "BIRDFEED_FLUSH_INTERVALL is not a birdfeed setting; did you mean BIRDFEED_FLUSH_INTERVAL?" in caplog.text
    assert "PROCESSES" not in caplog.text
    assert SECRET not in caplog.text
