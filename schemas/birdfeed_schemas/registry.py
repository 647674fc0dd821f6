"""The registry of event types: it links a type's name to its model, its row and its data source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final, TypeAlias

from msgspec import Struct

from birdfeed_schemas.events import Event, ImageGeneration, TextGeneration
from birdfeed_schemas.fields import IMAGE_GENERATION, SPELLINGS, TEXT_GENERATION, spellings
from birdfeed_schemas.row_models import ImageEventRow, LlmEventRow
from birdfeed_schemas.rows import Enriched, image_event_row, llm_event_row

RowBuilder: TypeAlias = Callable[[Enriched], Struct | dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """All that birdfeed knows about an event type.

    Attributes:
        name: What a handler passes to track_event.
        event: The model that validates its data.
        row: The struct of its rows, nested as their JSON is.
        build_row: Makes the row from an enriched event.
        datasource: The Tinybird data source that its rows are written to.
        fields: Field name → other spellings accepted for it.
    """

    name: str
    event: type[Event]
    row: type[Struct]
    build_row: RowBuilder
    datasource: str
    fields: Mapping[str, tuple[str, ...]]


#: Other packages add event types under this entry point group; see docs/how-to/add-an-event-type.md.
ENTRY_POINT_GROUP: Final = "birdfeed.event_types"


@cache
def registry() -> Mapping[str, EventType]:
    """Name → event type, for birdfeed's own types and those of installed packages.

    Raises:
        ValueError: Two types share a name, or an entry point is not an EventType.
    """
    own = (
        EventType(
            name="text_generation",
            event=TextGeneration,
            row=LlmEventRow,
            build_row=llm_event_row,
            datasource="llm_events",
            fields=TEXT_GENERATION,
        ),
        EventType(
            name="image_generation",
            event=ImageGeneration,
            row=ImageEventRow,
            build_row=image_event_row,
            datasource="image_events",
            fields=IMAGE_GENERATION,
        ),
    )
    types = {one.name: one for one in own}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        added = point.load()
        if not isinstance(added, EventType):
            raise ValueError(f"the entry point {point.name!r} of {ENTRY_POINT_GROUP} is not an EventType")
        if added.name in types:
            raise ValueError(f"two event types are named {added.name!r}; rename the one from {point.value!r}")
        types[added.name] = added
    return types


@cache
def spellings_of(event_type: str) -> Mapping[str, str] | None:
    """Accepted spelling → field name for a type; None if the type is not registered."""
    if event_type in SPELLINGS:
        return SPELLINGS[event_type]
    known = registry().get(event_type)
    return spellings(known.fields) if known is not None else None
