"""Turn the data that a handler passed into one event's line, keeping only what may leave the process.

The order is: the type's shape decides whether the data may leave unchanged, or else which parts may (shape.py); the
before_send hook gets what would be sent, and its result is checked against the shape again; the fields in `hmac_fields`
are hashed if a key is set; one orjson dump writes the data. This much is done in the request handler, along with the
event's id, which is returned to it. The flusher writes the rest of the line (batch.line_of), because formatting a time
costs as much as the dump.
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
from uuid_utils import UUID, uuid5, uuid7

from birdfeed.encoding.added_fields import AddedFields
from birdfeed.encoding.redact import ErrorMessage, pseudonym
from birdfeed.encoding.sampling import SAMPLE_RATE, Sampling
from birdfeed.encoding.sanitize import NOTHING, Bounds, Sanitizer
from birdfeed.encoding.shape import Shape
from birdfeed.logging_once import log_once, log_throttled
from birdfeed.stats import SAMPLED, Counters

#: What a before_send hook gets and returns: {"event_type": str, "event_data": dict}.
Event: TypeAlias = dict[str, Any]
BeforeSend: TypeAlias = Callable[[Event], Event | None]
#: Fields that name a person. Both are hashed by default: one left in clear would identify the other.
PERSONAL: Final = frozenset({"user", "username"})
#: An encoded event: its type; its data as JSON, with the number of dropped fields if there are any; the number of
#: dropped fields; when it occurred (epoch ns); and its id.
Encoded: TypeAlias = tuple[str, bytes, int, int, str]
#: A caller's own key: events of one type and key have one id, and count once.
IDEMPOTENCY_KEY: Final = "idempotency_key"
#: The UUID namespace for ids made from idempotency keys. Any UUID would do, but it must never change.
_NAMESPACE: Final = UUID("0192f0c1-5a3e-7d44-9c1b-6a3f6f2f8b11")

_convert: Final = msgspec.convert
_dumps: Final = orjson.dumps
#: Bytes of an event's line around its data: names, the id, and the time.
LINE_BYTES: Final = len('{"event_id":"","occurred_at":"","data":}') + 36 + 27
#: Unknown field names logged in all; and names of one event that are checked for it.
_MOST_TOLD: Final = 50
_MOST_NAMES: Final = 200
#: Sends datetimes down the slow path: orjson would write a naive one without a zone, but it is local time.
_NO_DATETIMES: Final = orjson.OPT_PASSTHROUGH_DATETIME


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may leave the process.

    `extra` are field names allowed besides the models' own; `max_event_bytes` limits one line; `defaults` are fields
    that events of this process get unless they set them; `sampling` decides which events are sent.
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
        """What events may send whose type's model has `spellings`; None is for a type that nobody registered."""
        return Shape(
            ANY_TYPE if spellings is None else spellings,
            extra=self.extra,
            struct=struct,
            error_message=self.error_message,
            keep_traceback=self.keep_traceback,
            referrer_path=self.referrer_path,
        )


class Encoder:
    """Encodes events under one Policy; may be called from any thread."""

    def __init__(self, policy: Policy, counters: Counters) -> None:
        self._policy = policy
        self._counters = counters
        self._most = policy.max_event_bytes - LINE_BYTES
        self._plain = policy.hmac_key is None and policy.before_send is None
        self.added: Final = AddedFields(policy.defaults)
        self._rates = policy.sampling.rates
        #: (event type, field name) of the unknown fields that were logged.
        self._told: set[tuple[str, str]] = set()

    def encode(self, event_type: str, event_data: Mapping[str, Any], shape: Shape) -> Encoded | None:
        """Encode one event; None if it was dropped and counted. What its shape may not send is dropped.

        The handler's data is read, never changed.

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
            # Most events take this path, so it makes as few calls as possible: each costs 1 to 2 % of its time.
            try:
                data: dict[str, Any] | None = event_data
                if (referrer := event_data.get("referrer")) is not None:
                    host = shape.hosts.get(referrer)
                    data = {**event_data, "referrer": host} if host is not None else shape.with_host(event_data)
                _convert(data, shape.struct)
                written = b"".join((_dumps(data, None, _NO_DATETIMES), b""))  # what compact_bytes does
            except Exception:  # whatever is wrong, the slow path handles it
                written = b""
            if 0 < len(written) <= self._most:
                return event_type, written, 0, time.time_ns(), str(uuid7())
            if written:
                return self._bounded(event_type, written, 0, time.time_ns())
        if isinstance(event_data, Mapping) and IDEMPOTENCY_KEY in event_data:
            return self._with_key(event_type, dict(event_data), shape)
        return self._filtered(event_type, event_data, shape)

    def _with_key(self, event_type: str, event_data: dict[str, Any], shape: Shape) -> Encoded | None:
        """Encode an event whose id is made from the caller's key; an empty key counts as no key."""
        key = event_data.pop(IDEMPOTENCY_KEY)
        encoded = self.encode(event_type, event_data, shape)
        if encoded is None or key is None or key == "":
            return encoded
        return (*encoded[:4], str(uuid5(_NAMESPACE, f"{event_type}\n{key}")))

    def _filtered(self, event_type: str, event_data: Mapping[Any, Any], shape: Shape) -> Encoded | None:
        """`encode` for data that can't leave unchanged: filter it, call the hook, hash fields."""
        if not isinstance(event_data, Mapping):
            raise TypeError("event data is a mapping")
        now = time.time_ns()
        for strict in (True,) if self._policy.before_send is not None else (False, True):  # the hook is called once
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
        # The number of dropped fields goes with the event; workers ignore names they don't know.
        left_out = b',"dropped_fields":%d' % walk.dropped if walk.dropped else b""
        if walk.cut:
            left_out += b',"truncated":%d' % walk.cut
        return self._bounded(event_type, compact_bytes(written + left_out), walk.dropped, now)

    def _tell_unknown(self, event_type: str, event_data: Mapping[Any, Any], shape: Shape) -> None:
        """Log each field name that birdfeed doesn't know once, with the one that was probably meant."""
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
        """The data after the hook, with persons hashed; None if the event was dropped and counted."""
        if (hook := self._policy.before_send) is not None:
            answer = self._ask(hook, event_type, data, shape, walk)
            if answer is None:
                return None
            data = answer
        if (key := self._policy.hmac_key) is not None:
            hashed = {}
            for name in self._policy.hmac_fields & data.keys():
                plain = walk.scalar(data[name])
                if plain is NOTHING:  # a structure in an allowed field
                    plain = orjson.dumps(data[name]).decode()
                hashed[name] = pseudonym(key, plain) if plain is not None else None
            data = {**data, **hashed}
        return data

    def _ask(
        self, hook: BeforeSend, event_type: str, data: dict[str, Any], shape: Shape, walk: Sanitizer
    ) -> dict[str, Any] | None:
        """The event as the hook returns it. The hook gets a copy, so it can't change the handler's objects."""
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


#: The last second that was formatted, and its text: formatting a time takes 2 µs, appending microseconds 0.3 µs.
_second: tuple[int, str] = (0, "1970-01-01T00:00:00.")


def time_written(nanoseconds: int) -> str:
    """A time (epoch ns) as text."""
    global _second
    seconds = nanoseconds // 1_000_000_000
    at = _second
    if at[0] != seconds:
        _second = at = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)))
    return f"{at[1]}{nanoseconds % 1_000_000_000 // 1_000:06}Z"
