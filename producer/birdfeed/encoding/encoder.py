"""Turn what a handler passed into one event's line, letting out only what may leave the process.

The order is: names are filtered and renamed by the allow-list, users' names are hashed if a key is set, the before_send
hook sees the event, one orjson dump writes it. The line is what birdfeed_schemas.wire.envelope.encode_event writes;
it is written here again because this runs in request handlers, where an Envelope object would double the cost.
"""

import hmac
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import orjson
from birdfeed_schemas.fields import ANY_TYPE
from birdfeed_schemas.wire.compact_bytes import compact_bytes
from uuid_utils import uuid7

from birdfeed.encoding.sanitize import clean, describe, unwrap
from birdfeed.logging_once import say
from birdfeed.stats import Counters

#: What a before_send hook is given and gives back: {"event_type": str, "event_data": dict}.
Event: TypeAlias = dict[str, Any]
BeforeSend: TypeAlias = Callable[[Event], Event | None]
#: Fields that name a person; with a key both are hashed, for the one would undo the other.
_PERSONAL: Final = ("user", "username")
#: Hex digits kept of the HMAC: 128 bits, half of SHA-256, as RFC 2104 allows.
_DIGITS: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may leave the process.

    `extra` are names allowed beside the models' own; `max_event_bytes` is the most one line may have.
    """

    extra: frozenset[str] = frozenset()
    hmac_key: bytes | None = None
    before_send: BeforeSend | None = None
    keep_traceback: bool = False
    max_event_bytes: int = 1_000_000

    def names(self, spellings: Mapping[str, str] | None) -> "Names":
        """The allow-list of a type whose model has `spellings`; None is a type that nobody registered."""
        known = ANY_TYPE if spellings is None else spellings
        return Names({**{name: name for name in self.extra}, **known})


class Names:
    """An allow-list: the names a handler may use for the fields of a type, and the field each stands for."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        """`fields` maps accepted spelling → field name."""
        self._fields = dict(fields)
        #: The fields' own names: data that uses no others needs no renaming, which is most of the cost of an event.
        self.own = frozenset(name for name, field in fields.items() if name == field)

    def rename(self, event_data: Mapping[str, Any], dropped: int) -> tuple[dict[str, Any], int]:
        """The allowed fields under their own names, and `dropped` plus the number of the others."""
        field_of = self._fields.get
        data: dict[str, Any] = {}
        for name, value in event_data.items():
            field = field_of(name)
            if field is None:
                dropped += 1
            elif field == name or field not in data:  # the field's own name wins over another spelling
                data[field] = value
        return data, dropped


class Encoder:
    """Writes events' lines by one Policy; safe to call from any thread."""

    def __init__(self, policy: Policy, counters: Counters) -> None:
        self._policy = policy
        self._counters = counters
        self._keep_traceback = policy.keep_traceback
        self._most = policy.max_event_bytes
        self._plain = policy.hmac_key is None and policy.before_send is None

    def encode(
        self,
        event_type: str,
        event_data: Mapping[str, Any],
        names: Names,
        minted: tuple[str, str] | None = None,
        dropped: int = 0,
    ) -> tuple[str, bytes, int] | None:
        """One event as (type, line, dropped fields), or None where it was dropped and counted.

        Args:
            event_type: The event's type.
            event_data: What the handler passed; it is read, never changed.
            names: Accepted spelling → field name; all else is dropped.
            minted: event_id and occurred_at, where they were minted before.
            dropped: Fields dropped before.
        """
        if type(event_data) is not dict:
            event_data = dict(event_data.items())  # raises for what is no mapping
        data: dict[str, Any] = event_data
        if not names.own.issuperset(event_data):
            data, dropped = names.rename(event_data, dropped)
        if "error" in data:
            data = {**data, "error": self._error(data["error"])}
        if not self._plain:
            private = self._private(event_type, {**data}, names)
            if private is None:
                return None
            data = private
        if minted is None:
            line: dict[str, Any] = {"event_id": str(uuid7()), "occurred_at": now_text(), "data": data}
        else:
            line = {"event_id": minted[0], "occurred_at": minted[1], "data": data}
        if dropped:
            line["dropped_fields"] = dropped
        try:
            encoded = compact_bytes(orjson.dumps(line, self._unwrap))
        except orjson.JSONEncodeError:
            mended = self._mend(line)
            if mended is None:
                self._counters.drop(event_type, "unserialisable")
                return None
            encoded = mended
        if len(encoded) > self._most:
            self._counters.drop(event_type, "too_large")
            say(logging.WARNING, "too large", "a %s event of %d bytes was refused", event_type, len(encoded))
            return None
        return event_type, encoded, dropped

    def _unwrap(self, value: object) -> object:
        return unwrap(value, keep_traceback=self._keep_traceback)

    def _mend(self, line: object) -> bytes | None:
        """The line with what JSON can't hold replaced; None where that doesn't help either."""
        self._counters.mended += 1
        try:
            return compact_bytes(orjson.dumps(clean(line, keep_traceback=self._keep_traceback)))
        except (TypeError, RecursionError, MemoryError) as error:
            say(logging.WARNING, "unserialisable", "an event could not be made JSON: %s", type(error).__name__)
            return None

    def _error(self, error: object) -> object:
        if isinstance(error, BaseException):
            return describe(error, keep_traceback=self._keep_traceback)
        if isinstance(error, Mapping) and not self._keep_traceback and "traceback" in error:
            return {name: part for name, part in error.items() if name != "traceback"}
        return error

    def _private(self, event_type: str, data: dict[str, Any], names: Names) -> dict[str, Any] | None:
        if (key := self._policy.hmac_key) is not None:
            for field in _PERSONAL:
                if (person := data.get(field)) is not None:
                    data[field] = pseudonym(key, person)
        if (hook := self._policy.before_send) is None:
            return data
        return self._ask(hook, event_type, data, names)

    def _ask(self, hook: BeforeSend, event_type: str, data: object, names: Names) -> dict[str, Any] | None:
        """What the hook makes of the event. It sees plain JSON of its own, so it can't change the handler's objects."""
        try:
            try:
                plain = orjson.loads(orjson.dumps(data, self._unwrap))
            except orjson.JSONEncodeError:
                self._counters.mended += 1
                plain = clean(data, keep_traceback=self._keep_traceback)
            answer = hook({"event_type": event_type, "event_data": plain})
            if answer is None:
                self._counters.drop(event_type, "before_send")
                return None
            return names.rename(answer["event_data"], 0)[0]
        except Exception as error:
            self._counters.drop(event_type, "before_send_failed")
            say(
                logging.ERROR,
                "before_send",
                "the before_send hook raised %s; the event was not sent",
                type(error).__name__,
            )
            return None


def snapshot(event_data: Mapping[str, Any]) -> bytes:
    """All of an event's data as it is now, for an event that can't be filtered yet; it stays in this process.

    Raises:
        orjson.JSONEncodeError: Not even the cleaned data is JSON.
    """
    data = {name: value for name, value in dict(event_data).items() if isinstance(name, str)}
    if isinstance(error := data.get("error"), BaseException):
        data["error"] = describe(error, keep_traceback=True)
    try:
        return compact_bytes(orjson.dumps(data, _unwrap_all))
    except orjson.JSONEncodeError:
        return compact_bytes(orjson.dumps(clean(data, keep_traceback=True)))


def _unwrap_all(value: object) -> object:
    return unwrap(value, keep_traceback=True)


def mint() -> tuple[str, str]:
    """A new event's event_id and occurred_at."""
    return str(uuid7()), now_text()


def pseudonym(key: bytes, person: object) -> str:
    """What stands for a person: the same for the same key and name, and no way back without the key."""
    name = person if isinstance(person, str) else str(clean(person))
    return hmac.digest(key, name.encode("utf-8", "replace"), "sha256").hex()[:_DIGITS]


#: The last second that was written, and its text: formatting a time costs 2 µs, adding microseconds to it 0.3.
_second: tuple[int, str] = (0, "")


def now_text() -> str:
    """The time now, as envelope.format_time writes it: UTC with microseconds and Z."""
    global _second
    nanoseconds = time.time_ns()
    seconds = nanoseconds // 1_000_000_000
    at = _second
    if at[0] != seconds:
        _second = at = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)))
    return at[1] + str(1_000_000 + nanoseconds % 1_000_000_000 // 1_000)[1:] + "Z"
