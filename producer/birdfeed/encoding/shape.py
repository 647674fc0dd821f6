"""The one check of what leaves the process: a type's names, and the type of each field.

An event passes at once where its data converts to the type's struct: every name is a field's own, every value is of its
field's type and within its length, and no nesting is deeper than the types are. That is one call of msgspec's, whose
result is thrown away. Any other event is made fit here, field by field.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from birdfeed_schemas.event_structs import FIELD_TYPES, EventData, struct_of

from birdfeed.encoding.redact import ErrorMessage, error_of, host_of
from birdfeed.encoding.sanitize import NOTHING, Bounds, Sanitizer
from birdfeed.encoding.usage import TEXT_TAKEN_OUT, is_number, moderation_of, names_are_good, usage_of

_convert: Final = msgspec.convert


def _is_of(value: object, known: Any, field: str) -> bool:
    """Whether a value is of its field's type, and may be sent as it is."""
    try:
        _convert(value, known)
    except Exception:
        return False
    return field != "usage" or not value or names_are_good(value)  # type: ignore[arg-type]  # it converted to a dict


def _reads_as(text: str, known: Any) -> bool:
    """Whether text stands for a value of the type: digits for a number, say."""
    return is_number(text) is not None or _is_of(text, known, "")


#: The fields that any text may stand in.
_TEXT_FIELDS: Final = frozenset(field for field, known in FIELD_TYPES.items() if _is_of("any text", known, ""))


class Shape:
    """What events of one type may send."""

    def __init__(
        self,
        fields: Mapping[str, str],
        *,
        extra: frozenset[str] = frozenset(),
        struct: type[EventData] | None = None,
        bounds: Bounds,
        error_message: ErrorMessage = "redacted",
        keep_traceback: bool = False,
        referrer_path: bool = False,
    ) -> None:
        """`fields` maps accepted spelling → field name; `struct` is the type's own, where it has one."""
        self._field_of = {**{name: name for name in extra}, **fields}
        self._bounds = bounds
        self._referrer_path = referrer_path
        self._keep_traceback = keep_traceback
        self._error_message = error_message
        if struct is None or extra:
            struct = struct_of(frozenset(self._field_of.values()))
        self._struct = struct
        self._rules: dict[str, Callable[[object, Sanitizer], Any]] = {
            "error": self._error,
            "referrer": self._referrer,
            "usage": usage_of,
            "moderation": moderation_of,
        }

    def fits(self, data: dict[str, Any]) -> bool:
        """Whether `data` may leave as it is."""
        try:
            _convert(data, self._struct)
        except Exception:  # whatever it is, the slow way finds it
            return False
        usage = data.get("usage")
        return not usage or names_are_good(usage)

    def with_host(self, data: dict[str, Any]) -> dict[str, Any]:
        """`data` with the host alone as its referrer, where it has one that is text."""
        referrer = data.get("referrer")
        if type(referrer) is str and not self._referrer_path and (host := host_of(referrer)) is not None:
            return {**data, "referrer": host}
        return data

    def admitted(self, data: Mapping[Any, Any], walk: Sanitizer, *, strict: bool) -> dict[str, Any]:
        """What of `data` may leave, under the fields' own names; `walk` counts what may not.

        Without `strict`, a value that is of its field's type is taken as it is: JSON may yet refuse it (a lone
        surrogate, an integer beyond 64 bits).

        Raises:
            Exception: Reading the mapping itself failed.
        """
        kept: dict[str, Any] = {}
        for name, field, value in self._named(data, walk):
            if field in kept and field != name:  # the field's own name wins over another spelling
                continue
            admitted = self._field(field, value, walk, strict)
            if admitted is NOTHING:
                walk.dropped += 1
            else:
                kept[field] = admitted
        return kept

    def _named(self, data: Mapping[Any, Any], walk: Sanitizer) -> list[tuple[str, str, Any]]:
        field_of = self._field_of
        found = []
        if type(data) is dict and len(data) > len(field_of):
            # Names that nobody stores are counted, not read: there may be a million.
            found = [(name, field, data[name]) for name, field in field_of.items() if name in data]
            walk.dropped += len(data) - len(found)
            return found
        for name, value in walk.items_of(data):
            field = field_of.get(name) if isinstance(name, str) else None
            if field is None:
                walk.dropped += 1
            else:
                found.append((name, field, value))
        return found

    def _field(self, field: str, value: object, walk: Sanitizer, strict: bool) -> Any:
        known = FIELD_TYPES.get(field)
        try:
            if not strict and known is not None and field != "referrer" and _is_of(value, known, field):
                return value
            if (rule := self._rules.get(field)) is not None:
                return rule(value, walk)
            if known is None:
                return walk.json(value)
        except Exception:  # a foreign object's own code
            return NOTHING
        plain = walk.scalar(value)
        # Text in a field that is no text (a time, a count) may be anything. The worker is shown that there was some.
        if isinstance(plain, str) and field not in _TEXT_FIELDS and not _reads_as(plain, known):
            walk.dropped += 1
            return TEXT_TAKEN_OUT
        return plain

    def _error(self, value: object, walk: Sanitizer) -> Any:
        return error_of(value, self._error_message, keep_traceback=self._keep_traceback, walk=walk)

    def _referrer(self, value: object, walk: Sanitizer) -> Any:
        plain = walk.scalar(value)
        if not isinstance(plain, str) or self._referrer_path:
            return plain if plain is None or isinstance(plain, str) else NOTHING
        host = host_of(plain) if plain else ""
        return NOTHING if host is None else host
