"""Edit: change dead events before a replay, and check whether they would be valid then. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from birdfeed_schemas.registry import registry
from birdfeed_schemas.tables.variables import type_meant
from birdfeed_schemas.wire.compact_bytes import compact_bytes
from birdfeed_schemas.wire.envelope import Header, WireError, read_event
from pydantic import ValidationError

from birdfeed_worker.pipeline.validate import reasons
from birdfeed_worker.queue.reply import json_object


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What to change in each event: fields of its data to set and to remove (dots lead into objects), and its type.

    event_id and occurred_at never change.
    """

    put: Mapping[str, Any] = field(default_factory=dict)
    remove: Sequence[str] = ()
    event_type: str | None = None

    @property
    def changes(self) -> bool:
        """Whether there is anything to change."""
        return bool(self.put or self.remove or self.event_type)

    def apply(self, event_type: str, line: bytes) -> bytes:
        """The changed line of an event; an unreadable line is returned unchanged."""
        if not (self.put or self.remove):
            return line
        fields = json_object(line)
        data = fields.get("data")
        if not isinstance(data, dict):
            return line
        known = registry().get(self.event_type or event_type)
        for path in (*self.remove, *self.put):
            _remove(data, path.split("."), {} if known is None else known.fields)
        for path, value in self.put.items():
            _put(data, path.split("."), value)
        return compact_bytes(orjson.dumps(fields))


def parse(assignments: Sequence[str]) -> dict[str, Any]:
    """Read `name=value` from the command line; a value that is JSON (a number, true, null, an object) is parsed.

    Raises:
        ValueError: There is no name, or no `=`.
    """
    found: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise ValueError(f"{text!r} is not name=value")
        try:
            found[name] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[name] = value
    return found


def refusal(event_type: str, line: bytes) -> str | None:
    """Why the worker would dead-letter this event again, in one sentence without its data; None if it wouldn't."""
    known = registry().get(event_type)
    if known is None:
        return f"no event type is named {event_type!r}{type_meant(event_type, registry())}"
    try:
        event = read_event(Header(batch_id="", event_type=event_type, count=1), line)
        known.event.model_validate(event.data)
    except WireError as error:
        return error.reason
    except ValidationError as error:
        return reasons(error)
    return None


def _remove(data: dict[str, Any], path: Sequence[str], fields: Mapping[str, Sequence[str]]) -> None:
    """Remove a field under all its spellings, so that an old spelling doesn't win over the new value."""
    holder = _holder(data, path)
    if holder is None:
        return
    for name in (path[-1], *(fields.get(path[-1], ()) if len(path) == 1 else ())):
        holder.pop(name, None)


def _put(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    holder = data
    for name in path[:-1]:
        inner = holder.get(name)
        if not isinstance(inner, dict):
            inner = holder[name] = {}
        holder = inner
    holder[path[-1]] = value


def _holder(data: dict[str, Any], path: Sequence[str]) -> dict[str, Any] | None:
    holder: Any = data
    for name in path[:-1]:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder if isinstance(holder, dict) else None
