"""The only check of what leaves the process: the field names of an event type, and the type of each value.

An event passes unchanged if its data converts to the type's struct: every key is a field's own name, every value has
its field's type and length, and nesting is no deeper than in the types. That is one call to msgspec, whose result is
discarded. Any other event is filtered here, field by field.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec
from birdfeed_schemas.event_structs import FIELD_TYPES, EventData, struct_of

from birdfeed.encoding.redact import ErrorMessage, error_of, host_of
from birdfeed.encoding.sanitize import NOTHING, TEXT_TAKEN_OUT, Sanitizer
from birdfeed.encoding.usage import is_number, moderation_of, usage_of

_convert: Final = msgspec.convert


#: Field → a struct with one value of the field's type. (msgspec caches what it knows about a struct; any other type it
#: analyses at each call, which takes 3 µs.)
_ONE: Final = {field: msgspec.defstruct("One", [("one", known)], gc=False) for field, known in FIELD_TYPES.items()}


def _is_of(value: object, field: str) -> bool:
    """Whether a value has its field's type, and may be sent unchanged."""
    try:
        _convert({"one": value}, _ONE[field])
    except Exception:
        return False
    return not isinstance(value, datetime)


#: The fields that may hold any text.
_TEXT_FIELDS: Final = frozenset(field for field in FIELD_TYPES if _is_of("any text", field))
#: Fields to filter, group by group, if an event does not pass unchanged; the most frequent causes come first.
_SEEN_TO: Final = (("error", "referrer"), ("usage",), ("moderation",))
#: Referrers seen → their hosts (most sites have few pages); how many are kept; and the longest kept, in characters.
_hosts: Final[dict[str, str]] = {}
_MAX_HOSTS: Final = 1_000
_MAX_REFERRER: Final = 300


class Shape:
    """The fields that events of one type may send."""

    def __init__(
        self,
        fields: Mapping[str, str],
        *,
        extra: frozenset[str] = frozenset(),
        struct: type[EventData] | None = None,
        error_message: ErrorMessage = "redacted",
        keep_traceback: bool = False,
        referrer_path: bool = False,
    ) -> None:
        """`fields` maps each accepted spelling to its field's name; `struct` is the type's own, if it has one."""
        self._field_of = {**{name: name for name in extra}, **fields}
        #: Every accepted spelling.
        self.names: Final = self._field_of.keys()
        self._own = frozenset(name for name, field in self._field_of.items() if name == field)
        self._referrer_path = referrer_path
        #: Referrer → its host, for those that were seen before; empty if referrers are sent unchanged.
        self.hosts: Final[Mapping[str, str]] = {} if referrer_path else _hosts
        self._keep_traceback = keep_traceback
        self._error_message = error_message
        if struct is None or extra:
            struct = struct_of(frozenset(self._field_of.values()))
        #: Data that passes unchanged converts to this.
        self.struct: Final = struct
        self._rules: dict[str, Callable[[object, Sanitizer], Any]] = {
            "error": self._error,
            "referrer": self._referrer,
            "usage": usage_of,
            "moderation": moderation_of,
        }

    def with_host(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """`data` with its referrer (not null) cut to the host; None if it has no host and must be removed."""
        if self._referrer_path:
            return data
        referrer = data["referrer"]
        host = _host_of(referrer) if type(referrer) is str else None
        return {**data, "referrer": host} if host else None

    def admitted(self, data: Mapping[Any, Any], walk: Sanitizer) -> dict[str, Any]:
        """The part of `data` that may leave the process, under the fields' own names; `walk` counts what may not.

        Unless the walk is strict, a value of its field's type is taken unchanged; the JSON encoder may yet reject it (a
        lone surrogate, an integer beyond 64 bits).

        Raises:
            Exception: Reading the mapping itself failed.
        """
        rest = self._named(data, walk)
        kept: dict[str, Any] = {}
        if not walk.strict:
            if (usage := rest.get("usage")) is not None and type(usage) is not dict:
                with suppress(Exception):  # raised by the object's own code; _field tries again
                    if type(opened := walk.opened(usage)) is dict:
                        rest["usage"] = opened  # as a mapping it often passes unchanged
            # In most events one or two fields must be filtered; all the others are checked in one call.
            for fields in _SEEN_TO:
                for field in fields:
                    if field in rest:
                        self._keep(field, rest.pop(field), kept, walk)
                if self._fits(rest):
                    return rest | kept
        for field, value in rest.items():
            if not walk.strict and field in _ONE and _is_of(value, field):
                kept[field] = value
            else:
                self._keep(field, value, kept, walk)
        return kept

    def _fits(self, data: dict[str, Any]) -> bool:
        """Whether `data` may leave unchanged."""
        try:
            _convert(data, self.struct)
        except Exception:  # whatever is wrong, the check of each field finds it
            return False
        # A datetime must be written with its zone, which orjson leaves out of a naive one.
        return not isinstance(data.get("start_time"), datetime) and not isinstance(data.get("end_time"), datetime)

    def _keep(self, field: str, value: object, kept: dict[str, Any], walk: Sanitizer) -> None:
        admitted = self._field(field, value, walk)
        if admitted is NOTHING:
            walk.dropped += 1
        else:
            kept[field] = admitted

    def _named(self, data: Mapping[Any, Any], walk: Sanitizer) -> dict[str, Any]:
        """The fields that may be sent, under their own names; the field's own name wins over another spelling."""
        if not walk.strict and type(data) is dict and self._own.issuperset(data):
            return dict(data)
        field_of = self._field_of
        named: dict[str, Any] = {}
        if type(data) is dict and len(data) > len(field_of):
            # Unknown names are counted, not read: there may be a million.
            items = [(name, data[name]) for name in field_of if name in data]
            walk.dropped += len(data) - len(items)
        else:
            items = walk.items_of(data)
        for name, value in items:
            field = field_of.get(name) if type(name) is str or isinstance(name, str) else None
            if field is None:
                walk.dropped += 1
            elif field == name or field not in named:
                named[field] = value
        return named

    def _field(self, field: str, value: object, walk: Sanitizer) -> Any:
        """The part of a value that may be sent; NOTHING if none may."""
        try:
            if (rule := self._rules.get(field)) is not None:
                return rule(value, walk)
            if field not in _ONE:
                return walk.json(value)
        except Exception:  # raised by the object's own code
            return NOTHING
        plain = walk.scalar(value)
        # Text in a field that is not for text (a time, a count) may be anything. A placeholder shows the worker that
        # there was some.
        if isinstance(plain, str) and field not in _TEXT_FIELDS and not (is_number(plain) or _is_of(plain, field)):
            walk.dropped += 1
            return TEXT_TAKEN_OUT
        return plain

    def _error(self, value: object, walk: Sanitizer) -> Any:
        return error_of(value, self._error_message, keep_traceback=self._keep_traceback, walk=walk)

    def _referrer(self, value: object, walk: Sanitizer) -> Any:
        plain = walk.scalar(value)
        if not isinstance(plain, str) or self._referrer_path:
            return plain if plain is None or isinstance(plain, str) else NOTHING
        host = _host_of(plain) if plain else ""
        return NOTHING if host is None else host


def _host_of(referrer: str) -> str | None:
    host = _hosts.get(referrer)
    if host is None:
        host = host_of(referrer)
        if host and len(_hosts) < _MAX_HOSTS and len(referrer) < _MAX_REFERRER:
            _hosts[referrer] = host
    return host
