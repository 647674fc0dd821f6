"""Turn what a handler passed into one event's line, letting out only what may leave the process.

The order is: the type's shape says whether the data may leave as it is, else what of it may (shape.py); the before_send
hook sees what would be sent, and its answer is checked against the shape again; the fields of `hmac_fields` are hashed
if a key is set; one orjson dump writes it. This much is done in request handlers, with the event's id, which they get;
the rest of its line is written by whoever sends it (batch.line_of), because a time's text costs as much as the dump.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec
import orjson
from birdfeed_schemas.event_structs import EventData
from birdfeed_schemas.fields import ANY_TYPE
from birdfeed_schemas.tables.hints import unknown_field, unknown_names
from birdfeed_schemas.wire.compact_bytes import compact_bytes
from uuid_utils import uuid7

from birdfeed.encoding.added_fields import AddedFields
from birdfeed.encoding.event_ids import id_of_key
from birdfeed.encoding.redact import ErrorMessage, pseudonym
from birdfeed.encoding.sampling import SAMPLE_RATE, Sampling
from birdfeed.encoding.sanitize import NOTHING, Bounds, Sanitizer
from birdfeed.encoding.shape import Shape
from birdfeed.logging_once import log_once, log_throttled
from birdfeed.stats import SAMPLED, Counters

#: What a before_send hook is given and gives back: {"event_type": str, "event_data": dict}.
Event: TypeAlias = dict[str, Any]
BeforeSend: TypeAlias = Callable[[Event], Event | None]
#: Fields that name a person; both are hashed by default, for the one would undo the other.
PERSONAL: Final = frozenset({"user", "username"})
#: An event on its way: its type; its data as JSON, and what was left out of it; the fields that were not passed on;
#: when it occurred (epoch ns); and its id.
Encoded: TypeAlias = tuple[str, bytes, int, int, str]
#: A caller's own key: events of one type and key have one id, and count once.
IDEMPOTENCY_KEY: Final = "idempotency_key"

_convert: Final = msgspec.convert
_dumps: Final = orjson.dumps
#: Bytes of an event's line around its data: names, the id, and the time.
LINE_BYTES: Final = len('{"event_id":"","occurred_at":"","data":}') + 36 + 27
#: Unknown names of fields told of, in all; and names of an event that are looked at for it.
_MOST_TOLD: Final = 50
_MOST_NAMES: Final = 200
#: What makes a datetime take the slow way: JSON would not say that a naive one is local time.
_NO_DATETIMES: Final = orjson.OPT_PASSTHROUGH_DATETIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may leave the process.

    `extra` are names allowed beside the models' own; `max_event_bytes` is the most one line may have; `defaults` are
    fields of this process, which events have unless they say otherwise; `sampling` says which events are sent at all.
    """

    extra: frozenset[str] = frozenset()
    hmac_key: bytes | None = None
    hmac_fields: frozenset[str] = PERSONAL
    before_send: BeforeSend | None = None
    keep_traceback: bool = False
    error_message: ErrorMessage = "redacted"
    referrer_path: bool = False
    max_event_bytes: int = 1_000_000
    defaults: Mapping[str, str] = field(default_factory=dict)
    bounds: Bounds = field(default_factory=Bounds)
    sampling: Sampling = field(default_factory=lambda: Sampling({}, errors=False))

    def shape(self, spellings: Mapping[str, str] | None, struct: type[EventData] | None = None) -> Shape:
        """What a type may send whose model has `spellings`; None is a type that nobody registered."""
        return Shape(
            ANY_TYPE if spellings is None else spellings,
            extra=self.extra,
            struct=struct,
            error_message=self.error_message,
            keep_traceback=self.keep_traceback,
            referrer_path=self.referrer_path,
        )


class Encoder:
    """Writes events' lines by one Policy; safe to call from any thread."""

    def __init__(self, policy: Policy, counters: Counters) -> None:
        self._policy = policy
        self._counters = counters
        self._most = policy.max_event_bytes - LINE_BYTES
        self._plain = policy.hmac_key is None and policy.before_send is None
        self.added: Final = AddedFields(policy.defaults)
        self._rates = policy.sampling.rates
        #: Event types and names of fields that were told of.
        self._told: set[tuple[str, str]] = set()

    def encode(self, event_type: str, event_data: Mapping[str, Any], shape: Shape) -> Encoded | None:
        """One event, or None where it was dropped and counted.

        Args:
            event_type: The event's type.
            event_data: What the handler passed; it is read, never changed.
            shape: What such an event may send; all else is dropped.

        Raises:
            Exception: `event_data` is not a mapping, or reading it failed.
        """
        if self.added.any and isinstance(event_data, Mapping):
            event_data = self.added.to(event_data, shape.names)
        if self._rates and event_type in self._rates and SAMPLE_RATE in shape.names:
            chosen = self._policy.sampling.of(event_type, event_data, event_data.get(IDEMPOTENCY_KEY))
            if chosen is None:
                self._counters.drop(event_type, SAMPLED)
                return None
            event_data = chosen
        if self._plain and type(event_data) is dict:
            # Most events end here, so it calls as little as it can: each call of a function is 1 to 2 % of its time.
            try:
                data: dict[str, Any] | None = event_data
                if (referrer := event_data.get("referrer")) is not None:
                    host = shape.hosts.get(referrer)
                    data = {**event_data, "referrer": host} if host is not None else shape.with_host(event_data)
                _convert(data, shape.struct)
                written = b"".join((_dumps(data, None, _NO_DATETIMES), b""))  # what compact_bytes does
            except Exception:  # whatever is wrong with it, the slow way finds it
                written = b""
            if 0 < len(written) <= self._most:
                return event_type, written, 0, time.time_ns(), str(uuid7())
            if written:
                return self._bounded(event_type, written, 0, time.time_ns())
        if isinstance(event_data, Mapping) and IDEMPOTENCY_KEY in event_data:
            return self._with_key(event_type, dict(event_data), shape)
        return self._filtered(event_type, event_data, shape)

    def _with_key(self, event_type: str, event_data: dict[str, Any], shape: Shape) -> Encoded | None:
        """An event whose id its caller's key decides; an empty key counts as no key."""
        key = event_data.pop(IDEMPOTENCY_KEY)
        encoded = self.encode(event_type, event_data, shape)
        if encoded is None or key is None or key == "":
            return encoded
        return (*encoded[:4], id_of_key(event_type, key))

    def _filtered(self, event_type: str, event_data: Mapping[Any, Any], shape: Shape) -> Encoded | None:
        """`encode` for what can't leave as it is: filtered, seen by the hook, hashed."""
        if not isinstance(event_data, Mapping):
            raise TypeError("event data is a mapping")
        now = time.time_ns()
        for strict in (True,) if self._policy.before_send is not None else (False, True):  # a hook is asked once
            walk = Sanitizer(self._policy.bounds, strict=strict)
            data: dict[str, Any] | None = shape.admitted(event_data, walk)
            try:
                if not self._plain:
                    data = self._private(event_type, data or {}, shape, walk)
                    if data is None:
                        return None
                written = orjson.dumps(data)
                break
            except orjson.JSONEncodeError as error:
                if strict:
                    self._counters.drop(event_type, "unserialisable")
                    log_throttled(
                        logging.WARNING,
                        "unserialisable",
                        "an event could not be encoded as JSON: %s",
                        type(error).__name__,
                    )
                    return None
        self._counters.count_filtered(sanitized=walk.sanitized, truncated=walk.cut > 0)
        if walk.dropped and len(self._told) < _MOST_TOLD and len(event_data) <= _MOST_NAMES:
            self._tell_unknown(event_type, event_data, shape)
        # What was left out; workers pass over what they don't know.
        left_out = b',"dropped_fields":%d' % walk.dropped if walk.dropped else b""
        if walk.cut:
            left_out += b',"truncated":%d' % walk.cut
        return self._bounded(event_type, compact_bytes(written + left_out), walk.dropped, now)

    def _tell_unknown(self, event_type: str, event_data: Mapping[Any, Any], shape: Shape) -> None:
        """Log once each name that nobody stores, with the one that was probably meant."""
        for name in unknown_names(event_data, shape.names):
            if (event_type, name) not in self._told and len(self._told) < _MOST_TOLD:
                self._told.add((event_type, name))
                log_once(
                    logging.WARNING, f"field {event_type} {name}", "%s", unknown_field(event_type, name, shape.names)
                )

    def _bounded(self, event_type: str, data: bytes, dropped: int, at: int) -> Encoded | None:
        if len(data) <= self._most:
            return event_type, data, dropped, at, str(uuid7())
        self._counters.drop(event_type, "too_large")
        log_throttled(logging.WARNING, "too large", "a %s event of %d bytes was refused", event_type, len(data))
        return None

    def _private(self, event_type: str, data: dict[str, Any], shape: Shape, walk: Sanitizer) -> dict[str, Any] | None:
        """What the hook makes of the data, with persons hashed; None where the event is dropped, and counted."""
        if (hook := self._policy.before_send) is not None:
            answer = self._ask(hook, event_type, data, shape, walk)
            if answer is None:
                return None
            data = answer
        if (key := self._policy.hmac_key) is not None:
            hashed = {}
            for name in self._policy.hmac_fields & data.keys():
                plain = walk.scalar(data[name])
                if plain is NOTHING:  # an allowed field that holds a structure
                    plain = orjson.dumps(data[name]).decode()
                hashed[name] = pseudonym(key, plain) if plain is not None else None
            data = {**data, **hashed}
        return data

    def _ask(
        self, hook: BeforeSend, event_type: str, data: dict[str, Any], shape: Shape, walk: Sanitizer
    ) -> dict[str, Any] | None:
        """What the hook makes of the event. It sees plain JSON of its own, so it can't change the handler's objects."""
        plain = orjson.loads(orjson.dumps(data))
        try:
            answer = hook({"event_type": event_type, "event_data": plain})
            if answer is None:
                self._counters.drop(event_type, "before_send")
                return None
            return shape.admitted(answer["event_data"], walk)
        except Exception as error:
            self._counters.drop(event_type, "before_send_failed")
            log_throttled(
                logging.ERROR,
                "before_send",
                "the before_send hook raised %s; the event was not sent",
                type(error).__name__,
            )
            return None


def now_text() -> str:
    """The time now, as envelope.format_time writes it: UTC with microseconds and Z."""
    return time_written(time.time_ns())


#: The last second that was written, and its text: formatting a time costs 2 µs, adding microseconds to it 0.3.
_second: tuple[int, str] = (0, "1970-01-01T00:00:00.")


def time_written(nanoseconds: int) -> str:
    """A time (epoch ns) as text."""
    global _second
    seconds = nanoseconds // 1_000_000_000
    at = _second
    if at[0] != seconds:
        _second = at = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)))
    return f"{at[1]}{nanoseconds % 1_000_000_000 // 1_000:06}Z"
