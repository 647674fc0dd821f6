"""The one check of what leaves the process: a type's names, and the type of each field.

An event passes at once where its data converts to the type's struct: every name is a field's own, every value is of its
field's type and within its length, and no nesting is deeper than the types are. That is one call of msgspec's, whose
result is thrown away. Any other event is made fit here, field by field.
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


#: Field → a struct of one value of the field's type. (msgspec keeps what it found out about a struct; about any other
#: type it finds it out anew at each call, which takes 3 µs.)
_ONE: Final = {field: msgspec.defstruct("One", [("one", known)], gc=False) for field, known in FIELD_TYPES.items()}


def _is_of(value: object, field: str) -> bool:
    """Whether a value is of its field's type, and may be sent as it is."""
    try:
        _convert({"one": value}, _ONE[field])
    except Exception:
        return False
    return not isinstance(value, datetime)


#: The fields that any text may be in.
_TEXT_FIELDS: Final = frozenset(field for field in FIELD_TYPES if _is_of("any text", field))
#: Fields that may need to be seen to where an event does not pass as it is, those first that mostly do.
_SEEN_TO: Final = (("error", "referrer"), ("usage",), ("moderation",))
#: Referrers seen, to their hosts; pages are few, mostly. And the longest that is remembered, in characters.
_hosts: Final[dict[str, str]] = {}
_MAX_HOSTS: Final = 1_000
_MAX_REFERRER: Final = 300


class Shape:
    """What events of one type may send."""

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
        """`fields` maps accepted spelling → field name; `struct` is the type's own, where it has one."""
        self._field_of = {**{name: name for name in extra}, **fields}
        #: Every spelling that is read.
        self.names: Final = self._field_of.keys()
        self._own = frozenset(name for name, field in self._field_of.items() if name == field)
        self._referrer_path = referrer_path
        #: Referrer → its host, of those that were seen before; nothing where a referrer is sent as it is.
        self.hosts: Final[Mapping[str, str]] = {} if referrer_path else _hosts
        self._keep_traceback = keep_traceback
        self._error_message = error_message
        if struct is None or extra:
            struct = struct_of(frozenset(self._field_of.values()))
        #: What passes as it is converts to this.
        self.struct: Final = struct
        self._rules: dict[str, Callable[[object, Sanitizer], Any]] = {
            "error": self._error,
            "referrer": self._referrer,
            "usage": usage_of,
            "moderation": moderation_of,
        }

    def with_host(self, data: dict[str, Any]) -> dict[str, Any] | None:
        """`data` with the host alone as its referrer, which is not null; None where that names none, and has to go."""
        if self._referrer_path:
            return data
        referrer = data["referrer"]
        host = _host_of(referrer) if type(referrer) is str else None
        return {**data, "referrer": host} if host else None

    def admitted(self, data: Mapping[Any, Any], walk: Sanitizer) -> dict[str, Any]:
        """What of `data` may leave, under the fields' own names; `walk` counts what may not.

        Unless the walk is strict, a value that is of its field's type is taken as it is: JSON may yet refuse it (a lone
        surrogate, an integer beyond 64 bits).

        Raises:
            Exception: Reading the mapping itself failed.
        """
        rest = self._named(data, walk)
        kept: dict[str, Any] = {}
        if not walk.strict:
            if (usage := rest.get("usage")) is not None and type(usage) is not dict:
                with suppress(Exception):  # the object's own code; the field's rule asks again
                    if type(opened := walk.opened(usage)) is dict:
                        rest["usage"] = opened  # which often passes as it is
            # Most events need one or two fields seen to; what all the others are is asked at once.
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
        """Whether `data` may leave as it is."""
        try:
            _convert(data, self.struct)
        except Exception:  # whatever it is, field by field it will be found
            return False
        # A time's text says which zone it is in, as JSON's would not.
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
            # Names that nobody stores are counted, not read: there may be a million.
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
        """What of a value may be sent; NOTHING for none of it."""
        try:
            if (rule := self._rules.get(field)) is not None:
                return rule(value, walk)
            if field not in _ONE:
                return walk.json(value)
        except Exception:  # a foreign object's own code
            return NOTHING
        plain = walk.scalar(value)
        # Text in a field that is no text (a time, a count) may be anything. The worker is shown that there was some.
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
