"""Create from the settings what workers and commands both need: price books, tiers and Tinybird's client."""

from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from birdfeed_schemas.safety.urls import goes_in_clear
from pydantic import SecretStr
from redis import Redis

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.pricing.book.book import Books, load
from birdfeed_worker.pricing.book.fallback import GenaiPrices
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tiers.lookup import CachedTiers, NoTiers, TierLookup, TierSource
from birdfeed_worker.tiers.sources import AuthServiceTiers, FileTiers, RedisTiers
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.http import JsonGetter
from birdfeed_worker.tinybird.tokens import Token

#: The placeholder for the user in the auth service's URL: https://auth.example/check?token={user}
USER: Final = "{user}"


def book_source_of(settings: WorkerSettings) -> BookSource:
    """The books, in order: the operator's own, the shipped one, then the fallback. Raises PriceBookError."""
    return BookSource(settings.price_book, fallback=GenaiPrices() if settings.price_fallback else None)


def only_book(path: Path) -> Books:
    """Only one file, without fallback. Raises PriceBookError."""
    return Books((load(path),))


def tiers_of(
    settings: WorkerSettings,
    connection: Redis,
    on_failure: Callable[[str, int], None] = lambda reason, users: None,
) -> TierLookup:
    """The look-up of tiers. `on_failure` is called with the reason and the number of users without an answer.

    Raises:
        ConfigurationError: BIRDFEED_TIERS is not redis:<key>, file:<path> or https://... (http:// only to this
            machine), or the file is invalid.
    """
    where = settings.tiers
    if not where:
        return NoTiers()
    kind, _, rest = where.partition(":")
    source: TierSource
    if kind == "file":
        return FileTiers(Path(rest))
    if kind == "redis" and rest:
        source = RedisTiers(connection, rest)
    elif kind.lower() in {"http", "https"}:
        if goes_in_clear(where):
            raise ConfigurationError(
                "BIRDFEED_TIERS uses http, which is allowed for this machine only: others could read users' names "
                "or tokens in transit; use https"
            )
        source = _auth_service(where, settings.tier_timeout)
    else:
        raise ConfigurationError(
            "BIRDFEED_TIERS must be redis:<hash key>, file:<path>, or the auth service's https URL"
        )
    return CachedTiers(source, ttl=settings.tier_ttl, budget=settings.tier_timeout, on_failure=on_failure)


def _auth_service(url: str, timeout: float) -> AuthServiceTiers:
    """The auth service at a URL. The URL's parameters are kept; the one with the value {user} is set to the user."""
    parts = urlsplit(url)
    fixed = dict(parse_qsl(parts.query, keep_blank_values=True))
    asked_by = next((name for name, value in fixed.items() if value == USER), "user")
    fixed.pop(asked_by, None)
    get = JsonGetter(urlunsplit(parts._replace(query="")), timeout)
    return AuthServiceTiers(lambda asked: get({**fixed, **asked}), asked_by)


def append_token_of(settings: WorkerSettings) -> Token:
    """The append token; raises ConfigurationError if none is set, or its file can't be read."""
    token = _token("TINYBIRD_TOKEN", settings.tinybird_token, settings.tinybird_token_file)
    if not token.value:
        raise ConfigurationError(
            "TINYBIRD_TOKEN is not set; set it to a token with APPEND scope on llm_events and image_events"
        )
    return token


def read_token_of(settings: WorkerSettings) -> Token | None:
    """The read token, or None; raises ConfigurationError if its file can't be read."""
    token = _token("TINYBIRD_READ_TOKEN", settings.tinybird_read_token, settings.tinybird_read_token_file)
    return token if token.value else None


def console_token_of(settings: WorkerSettings) -> str:
    """The console's token, "" if none is set; raises ConfigurationError if its file can't be read."""
    token = _token("BIRDFEED_CONSOLE_TOKEN", settings.console_token, settings.console_token_file).value
    if token and len(token) < 16:
        raise ConfigurationError("BIRDFEED_CONSOLE_TOKEN_FILE: the token is shorter than 16 characters")
    return token


def _token(variable: str, value: SecretStr | None, path: Path | None) -> Token:
    return Token(variable if path is None else f"{variable}_FILE", value.get_secret_value() if value else "", path)


def tinybird_of(settings: WorkerSettings, make: Callable[..., Tinybird] = Tinybird) -> Tinybird:
    """Tinybird's client, made by `make`; raises ConfigurationError if host or token is missing."""
    return _client(settings, append_token_of(settings), read_token_of(settings), make)


def reader_of(settings: WorkerSettings) -> Tinybird:
    """A client that only reads; raises ConfigurationError if host or read token is missing."""
    read_token = read_token_of(settings)
    if read_token is None:
        raise ConfigurationError(
            "TINYBIRD_READ_TOKEN is not set; set it to a token with READ scope on llm_events and image_events"
        )
    return _client(settings, "", read_token)


def deleter_of(settings: WorkerSettings) -> Tinybird | None:
    """A client that may delete rows; None if no token for that is set. Raises ConfigurationError."""
    token = _token("TINYBIRD_DELETE_TOKEN", settings.tinybird_delete_token, settings.tinybird_delete_token_file)
    return _client(settings, token, None) if token.value else None


def _client(
    settings: WorkerSettings, append: Token | str, read: Token | None, make: Callable[..., Tinybird] = Tinybird
) -> Tinybird:
    timeouts = {"connect_timeout": settings.connect_timeout, "read_timeout": settings.read_timeout}
    return make(settings.host, append, read, **timeouts)
