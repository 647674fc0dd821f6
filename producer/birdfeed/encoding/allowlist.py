"""What each event type may send. A type that is seen for the first time is looked up once."""

import logging
from typing import Final

from birdfeed_schemas.event_structs import STRUCTS
from birdfeed_schemas.fields import SPELLINGS
from birdfeed_schemas.tables.variables import type_meant

from birdfeed.encoding.encoder import Policy
from birdfeed.encoding.shape import Shape
from birdfeed.logging_once import log_once, log_throttled
from birdfeed.runtime.fork_lock import import_lock

#: Types remembered at most, so that a program that builds type names from ids doesn't fill the memory.
_MAX_TYPES: Final = 256
#: Characters of an event type at most.
_MAX_LENGTH: Final = 100
#: The entry point group through which packages add types. birdfeed_schemas.registry has it too, but is slow to import.
_GROUP: Final = "birdfeed.event_types"


class Allowed:
    """Event type → its shape, under one Policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        #: The types known so far; only `resolve` adds to it.
        self.known: dict[str, Shape] = {
            name: policy.shape(spellings, STRUCTS[name]) for name, spellings in SPELLINGS.items()
        }
        self._any: Shape | None = None

    def resolve(self, event_type: str) -> Shape:
        """What a type may send. The first type that isn't birdfeed's own makes it load the types of other packages.

        That takes a few ms if no package adds types; otherwise it imports the models, which takes 100 ms or more.
        start() and the flusher's thread do it in advance.
        """
        shape = self.known.get(event_type)
        if shape is not None:
            return shape
        load_plugged_in()
        spellings = _types.get(event_type)
        full = len(self.known) >= _MAX_TYPES
        if spellings is None:
            if not full:
                hint = type_meant(event_type, {**SPELLINGS, **_types})
                log_once(
                    logging.WARNING,
                    f"type {event_type}",
                    "no event type %r is known here; where workers don't know it either, its events are dead letters%s",
                    event_type,
                    hint,
                )
            if self._any is None:
                self._any = self._policy.shape(None)
            shape = self._any
        else:
            shape = self._policy.shape(spellings)
        if not full:
            self.known[event_type] = shape
        return shape


_asked = False
_types: dict[str, dict[str, str]] = {}


def load_plugged_in() -> None:
    """Load the event types of installed packages, once per process."""
    global _asked
    if _asked:
        return
    with import_lock:
        try:
            from importlib.metadata import entry_points  # takes 10 ms, so it is not imported with birdfeed

            if entry_points(group=_GROUP):
                from birdfeed_schemas.registry import registry, spellings_of

                _types.update({name: dict(spellings_of(name) or {}) for name in registry()})
        except Exception as error:  # a bug in another package's entry point
            log_throttled(
                logging.ERROR, "entry points", "event types of other packages can't be read: %s", type(error).__name__
            )
        _asked = True


def usable(event_type: object) -> bool:
    """Whether this can be an event type: printable text, not too long, because it is used in Redis keys and logs."""
    return isinstance(event_type, str) and 0 < len(event_type) <= _MAX_LENGTH and event_type.isprintable()
