"""Validate events against the model of their type. Only the invalid event is dead-lettered, with every reason.

An error event always becomes a row: a client's bad values often end up in the event about the failed request, and must
cost no more than the fields that hold them.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from birdfeed_schemas.events import UNKNOWN_MODEL, Event
from birdfeed_schemas.registry import EventType, registry, spellings_of
from birdfeed_schemas.safety.validation import sentences
from birdfeed_schemas.tables.variables import type_meant
from birdfeed_schemas.typed.lines import Line, extra_of
from birdfeed_schemas.wire.envelope import Envelope
from msgspec import Struct
from pydantic import TypeAdapter, ValidationError

from birdfeed_worker.model import Dead, Item

#: Characters kept of a validation error's text.
MAX_DETAIL: Final = 500


@cache
def _many(event_type: str) -> TypeAdapter[list[Event]]:
    model = registry()[event_type].event
    return TypeAdapter(list[model])  # type: ignore[valid-type]


def validate(event_type: str, items: Iterable[Item]) -> list[tuple[Item, Event]]:
    """The items with valid events, and the events; the other items get a Dead outcome.

    Reasons: `unknown_event_type`, `invalid`.
    """
    waiting = [item for item in items if item.outcome is None]
    known = registry().get(event_type)
    if known is None:
        detail = f"no event type is named {event_type[:MAX_DETAIL]!r}{type_meant(event_type[:MAX_DETAIL], registry())}"
        for item in waiting:
            item.outcome = Dead("unknown_event_type", detail[:MAX_DETAIL])
        return []
    untyped = [item for item in waiting if item.event is None]
    if untyped:
        data = [item.envelope.data for item in untyped if item.envelope is not None]
        try:
            # One call for the whole list takes half the time of a call per event; only an invalid event requires those.
            for item, event in zip(untyped, _many(event_type).validate_python(data), strict=True):
                item.event = event
        except ValidationError:
            for item in untyped:
                item.event = _one(known, item)
    return [(item, item.event) for item in waiting if item.event is not None]


def _one(known: EventType, item: Item) -> Event | None:
    assert item.envelope is not None
    try:
        return known.event.model_validate(item.envelope.data)
    except ValidationError as error:
        event = _without_wrong_fields(known, item.envelope, error)
        if event is None:
            item.outcome = Dead("invalid", reasons(error))
        return event


def _without_wrong_fields(known: EventType, envelope: Envelope | Line, error: ValidationError) -> Event | None:
    """An error event without the fields that its model rejects, which count as dropped; None for other events."""
    fields = spellings_of(known.name) or {}
    wrong = {
        fields.get(str(one["loc"][0]), str(one["loc"][0]))
        for one in error.errors(include_url=False, include_context=False, include_input=False)
        if one["loc"]
    }
    kept = {name: value for name, value in envelope.data.items() if fields.get(name, name) not in wrong}
    if "model" in wrong:
        kept["model"] = UNKNOWN_MODEL
    try:
        event = known.event.model_validate(kept)
    except ValidationError:
        return None
    if not event.failed:
        return None
    envelope.dropped_fields += sum(
        value is not None and fields.get(name, name) in wrong for name, value in envelope.data.items()
    )
    envelope.data = kept
    return event


def reasons(error: ValidationError) -> str:
    """One sentence for each reason, with field and rule but without the value, which may be private."""
    return sentences(error, lambda place: ".".join(map(str, place)) or "event")[:MAX_DETAIL]


def leftover(event_type: str, data: Any, extra: frozenset[str]) -> tuple[dict[str, Any], int]:
    """The data outside the model: the fields that the operator allowed, and how many others are dropped."""
    if isinstance(data, Struct):
        return (extra_of(data) if extra else {}), 0
    names = spellings_of(event_type) or {}
    if names.keys() >= data.keys():
        return {}, 0
    unknown = sorted(name for name in data if name not in names)
    kept = {name: data[name] for name in unknown if name in extra}
    return kept, len(unknown) - len(kept)
