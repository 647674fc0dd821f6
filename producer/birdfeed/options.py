"""The producer's settings as it uses them: plain values, read from the environment quickly, without pydantic.

Importing pydantic takes 100 ms, and no request may wait for that, so a program that doesn't call configure() reads its
settings here at its first event. settings.py has the model that validates the arguments of configure();
docs/reference/settings.md is made from it, and a test compares the two.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal

from birdfeed_schemas.event_structs import MAX_TEXT
from birdfeed_schemas.safety.redis_url import checked_redis_url
from birdfeed_schemas.tables.variables import unknown_variables

from birdfeed.errors import ConfigurationError
from birdfeed.logging_once import log_once

#: Words for true and for false, as pydantic reads them.
_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE: Final = frozenset({"0", "false", "f", "no", "n", "off"})
#: The variables that name Redis; the first that is set wins.
REDIS_VARIABLES: Final = ("BIRDFEED_REDIS_URL", "REDIS_URL")

Read = Callable[[str], Any]


def _flag(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return text.lower() in _TRUE


def _whole(least: int, most: int | None = None) -> Read:
    def read(text: str) -> int:
        number = int(text) if text.strip().lstrip("+-").isdigit() else None
        if number is None or number < least or (most is not None and number > most):
            raise ValueError(
                f"must be a whole number {f'of at least {least}' if most is None else f'from {least} to {most}'}"
            )
        return number

    return read


def _positive(most: float = math.inf) -> Read:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not 0 < number <= most:
            raise ValueError("must be a number above 0" + (f", at most {most:g}" if most < math.inf else ""))
        return number

    return read


def _one_of(*words: str) -> Read:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def _name(allowed: str) -> Read:
    characters = frozenset(allowed + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")

    def read(text: str) -> str:
        if not characters.issuperset(text):
            raise ValueError(f"may contain only letters, digits, _ and {allowed}")
        return text

    return read


def _text(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise ValueError(f"must have at most {MAX_TEXT} characters")
    return text


def rates_in(text: str) -> dict[str, float]:
    """Event type → share of its events, from a comma-separated list such as text_generation=0.1.

    Raises:
        ValueError: It is not such a list, or a share is not above 0 and at most 1.
    """
    rates: dict[str, float] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        event_type, _, rate = part.rpartition("=")
        if not event_type.strip():
            raise ValueError("must be a list such as text_generation=0.1,image_generation=0.5")
        rates[event_type.strip()] = _positive(1)(rate)
    return rates


def names_in(text: str) -> frozenset[str]:
    """The names in a comma-separated list."""
    return frozenset(name.strip() for name in text.split(",") if name.strip())


def _names(text: str) -> frozenset[str]:
    return names_in(_name(", ")(text))


def _utf8(text: str) -> str:
    """A variable's text, which is UTF-8 in any locale; Python has decoded it as the locale says."""
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        raise ValueError("must be UTF-8 text") from None


#: The key in a field's metadata that holds the function that reads the field from text.
_READ: Final = "read"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """See ProducerSettings for what each means. `redis_url` and `hmac_key` are secret: never log an Options object."""

    redis_url: str | None = field(default=None, repr=False, metadata={_READ: checked_redis_url})
    queue: str = field(default="birdfeed", metadata={_READ: _name("-.")})
    key_prefix: str = field(default="rq", metadata={_READ: _name("-.:{}")})
    wait_replicas: int = field(default=0, metadata={_READ: _whole(0, 100)})
    extra_fields: frozenset[str] = field(default=frozenset(), metadata={_READ: _names})
    enabled: bool = field(default=True, metadata={_READ: _flag})
    flush_interval: float = field(default=0.2, metadata={_READ: _positive(3_600)})
    batch_events: int = field(default=500, metadata={_READ: _whole(1, 10_000)})
    batch_bytes: int = field(default=512_000, metadata={_READ: _whole(1_000, 50_000_000)})
    buffer_events: int = field(default=100_000, metadata={_READ: _whole(1)})
    buffer_bytes: int = field(default=64_000_000, metadata={_READ: _whole(1)})
    max_event_bytes: int = field(default=1_000_000, metadata={_READ: _whole(1)})
    max_depth: int = field(default=8, metadata={_READ: _whole(1, 32)})
    max_items: int = field(default=1_000, metadata={_READ: _whole(100, 5_000)})
    max_text: int = field(default=512, metadata={_READ: _whole(512, 100_000)})
    drop_policy: Literal["newest", "oldest"] = field(default="newest", metadata={_READ: _one_of("newest", "oldest")})
    durability: Literal["buffer", "spool"] = field(default="buffer", metadata={_READ: _one_of("buffer", "spool")})
    spool_dir: Path | None = field(default=None, metadata={_READ: Path})
    spool_wait: float = field(default=0.5, metadata={_READ: _positive(3_600)})
    spool_bytes: int = field(default=256_000_000, metadata={_READ: _whole(0)})
    spool_drain_rate: float = field(default=5_000.0, metadata={_READ: _positive()})
    user_hmac_key: str | None = field(default=None, repr=False, metadata={_READ: str})
    hmac_fields: frozenset[str] = field(default=frozenset({"user", "username"}), metadata={_READ: _names})
    error_message: Literal["full", "redacted", "none"] = field(
        default="redacted", metadata={_READ: _one_of("full", "redacted", "none")}
    )
    referrer: Literal["host", "path"] = field(default="host", metadata={_READ: _one_of("host", "path")})
    keep_traceback: bool = field(default=False, metadata={_READ: _flag})
    close_timeout: float = field(default=5.0, metadata={_READ: _positive(3_600)})
    sigterm_hook: bool = field(default=False, metadata={_READ: _flag})
    redis_timeout: float = field(default=1.0, metadata={_READ: _positive(3_600)})
    environment: str = field(default="", metadata={_READ: _text})
    project: str = field(default="", metadata={_READ: _text})
    organization: str = field(default="", metadata={_READ: _text})
    compression: int = field(default=1, metadata={_READ: _whole(0, 9)})
    sample: Mapping[str, float] = field(default_factory=dict, metadata={_READ: rates_in})
    sample_errors: bool = field(default=False, metadata={_READ: _flag})
    #: Where the Redis URL came from, for the log: a variable's name, or "configure()".
    redis_source: str = field(default="configure()", metadata={})

    @property
    def on(self) -> bool:
        """Whether events are sent at all."""
        return self.enabled and self.redis_url is not None

    @property
    def redis_url_text(self) -> str:
        """The URL with its password, to connect with; never log it.

        Raises:
            ValueError: No URL is set.
        """
        if self.redis_url is None:
            raise ValueError("no Redis is configured; set BIRDFEED_REDIS_URL (or REDIS_URL), or start `birdfeed up`")
        return self.redis_url

    @property
    def spool_directory(self) -> Path:
        """The directory of the spool; this doesn't create it."""
        return self.spool_dir if self.spool_dir is not None else default_spool_directory()


def variables_of(name: str) -> tuple[str, ...]:
    """The environment variables that a setting is read from; the first that is set wins."""
    return REDIS_VARIABLES if name == "redis_url" else (f"BIRDFEED_{name.upper()}",)


def options_from(environment: Mapping[str, str]) -> Options:
    """The options that an environment sets. Empty variables count as unset: compose files pass unset ones on as "".

    Raises:
        ConfigurationError: A variable is wrong; the message names each wrong one, but no values.
    """
    given = {name.upper(): value for name, value in environment.items() if value}
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for option in fields(Options):
        read = option.metadata.get(_READ)
        variable = next((name for name in variables_of(option.name) if name in given), None)
        if read is None or variable is None:
            continue
        try:
            values[option.name] = read(given[variable] if read is Path else _utf8(given[variable]))
        except ValueError as error:
            wrong.append(f"{variable}: {error}")
        if option.name == "redis_url":
            values["redis_source"] = variable
    log_unknown(environment)
    if wrong:
        raise ConfigurationError("; ".join(wrong))
    return Options(**values)


def log_unknown(environment: Mapping[str, str]) -> None:
    """Log once each `BIRDFEED_*` variable that is not a setting, with the one that was probably meant; no values."""
    for name, near in unknown_variables(environment).items():
        hint = f"; did you mean {near}?" if near else ""
        log_once(logging.WARNING, f"variable {name}", "%s is not a birdfeed setting%s", name, hint)


def option_names() -> Iterable[str]:
    """The settings' names."""
    return [option.name for option in fields(Options) if _READ in option.metadata]


def default_spool_directory() -> Path:
    """The user's state directory, or a directory of this user's in the directory for temporary files."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # https://specifications.freedesktop.org/basedir-spec: a relative path is ignored
        return state / "birdfeed"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("/nonexistent")
    if os.access(home, os.W_OK):
        return home / ".local" / "state" / "birdfeed"
    import tempfile

    return Path(tempfile.gettempdir()) / f"birdfeed-{os.getuid()}"
