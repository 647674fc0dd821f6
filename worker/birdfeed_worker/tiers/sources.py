"""Sources of tiers: a Redis hash, an auth service, a file."""

import csv
import io
import json
import logging
import threading
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from redis import Redis

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.operator_files import file_stamp, read_text

log: Final = logging.getLogger(__name__)

#: Characters of a tier file: some millions of users.
MAX_TIERS: Final = 200_000_000
#: Requests to the auth service at a time.
MAX_REQUESTS: Final = 8
#: Seconds between two checks of the file's date.
CHECK_EVERY: Final = 1.0

#: Makes one GET with these query parameters; returns the status and the body's JSON (None if it has none). Raises if
#: there is no answer in time; the function has its own timeout.
Fetch: TypeAlias = Callable[[Mapping[str, str]], tuple[int, object]]


@dataclass(frozen=True, slots=True)
class RedisTiers:
    """A Redis hash of user → tier, read in one round trip per batch."""

    client: Redis
    key: str

    def answers(self, users: Collection[str]) -> Iterator[tuple[str, str | None]]:
        """See TierSource; raises what the client raises."""
        asked = list(users)
        values: Sequence[bytes | str | None] = self.client.hmget(self.key, asked)
        for user, value in zip(asked, values, strict=True):
            tier = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
            yield user, tier.strip() or None if tier else None


@dataclass(frozen=True, slots=True)
class AuthServiceTiers:
    """An auth service: GET with ?user= (or ?token=, ...) → {valid, userId or user_id, username, tier}.

    Several users are looked up at a time, with one request each, and independently of each other.
    """

    fetch: Fetch
    asked_by: str = "user"

    def answers(self, users: Collection[str]) -> Iterator[tuple[str, str | None]]:
        """See TierSource; a request that fails leaves its user without an answer."""
        asked = list(users)
        with ThreadPoolExecutor(min(MAX_REQUESTS, len(asked)) or 1, thread_name_prefix="birdfeed-auth") as threads:
            requests = {threads.submit(self._ask, user): user for user in asked}
            for request in as_completed(requests):
                error = request.exception()
                if error is None:
                    yield requests[request], request.result()
                else:
                    log.warning("the auth service gave no answer: %s", error)

    def _ask(self, user: str) -> str | None:
        status, body = self.fetch({self.asked_by: user})
        if status == 404:
            return None
        if status != 200 or not isinstance(body, Mapping) or not isinstance(body.get("valid"), bool):
            raise AuthServiceError(status)
        if not body["valid"]:
            return None
        said = body.get("userId", body.get("user_id"))
        if self.asked_by == "user" and said is not None and str(said) != user:
            raise AuthServiceError(status)  # another user's tier is not an answer
        tier = body.get("tier")
        return tier.strip() or None if isinstance(tier, str) else None


class AuthServiceError(Exception):
    """The auth service's answer is not valid; `status` is HTTP's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"its answer can't be used (HTTP {status})")


class FileTiers:
    """A file of user → tier: JSON (an object), TOML (a table) or CSV (two columns; a header "user,tier" is skipped).

    It is checked at most once a second, and read again when it has changed. If it is then invalid, the tiers stay as
    they were, and the error is logged once.

    Raises:
        ConfigurationError: The file can't be read, or isn't what its name says.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = file_stamp(self._path)
        self._tiers = read_tiers(path)
        self._next_look = clock() + CHECK_EVERY

    def look_up(self, users: Collection[str]) -> Mapping[str, str]:
        """The tiers in the file; no cache is needed in front of it."""
        self._refresh()
        tiers = self._tiers
        return {user: tiers[user] for user in users if user in tiers}

    recall = look_up  # which never waits

    def _refresh(self) -> None:
        with self._lock:
            if self._clock() < self._next_look:
                return
            self._next_look = self._clock() + CHECK_EVERY
            stamp = file_stamp(self._path)
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self._tiers = read_tiers(self._path)
            except ConfigurationError as error:
                log.error("the tiers stay as they were: %s", error)


def read_tiers(path: Path) -> dict[str, str]:
    """User → tier, from a file.

    Raises:
        ConfigurationError: It can't be read, or isn't valid JSON, TOML or CSV, depending on its name.
    """
    try:
        text = read_text(path, MAX_TIERS)
        match path.suffix.lower():
            case ".json":
                tiers = json.loads(text)
            case ".toml":
                tiers = tomllib.loads(text)
            case ".csv":
                tiers = _from_csv(text)
            case other:
                raise ConfigurationError(f"{path}: a tier file is .json, .toml or .csv, not {other!r}")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{path}: it is nested too deep") from None
    if not isinstance(tiers, dict) or not all(isinstance(tier, str) and tier.strip() for tier in tiers.values()):
        raise ConfigurationError(f"{path}: a tier file contains only user = tier, both text")
    return {user: tier.strip() for user, tier in tiers.items()}


def _from_csv(text: str) -> dict[str, str]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    for number, row in enumerate(rows, 1):
        if len(row) != 2:
            raise ValueError(f"line {number} has {len(row)} columns instead of two (user,tier)")
    if rows and [cell.strip().lower() for cell in rows[0]] == ["user", "tier"]:
        rows = rows[1:]
    return {user.strip(): tier for user, tier in rows}
