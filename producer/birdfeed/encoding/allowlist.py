"""Know which field names each event type may send, and get to know types that are seen for the first time."""

import logging
from typing import Final

from birdfeed_schemas.fields import SPELLINGS

from birdfeed.encoding.encoder import Names, Policy
from birdfeed.logging_once import say, say_once
from birdfeed.runtime.fork_lock import gate

#: Types remembered; a program that makes types up from ids must not fill the memory.
_MAX_TYPES: Final = 256
#: Characters of an event type.
_MAX_LENGTH: Final = 100


class Allowed:
    """Event type → accepted spelling → field name, by one Policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        #: The types known so far; only `meet` adds to it.
        self.known: dict[str, Names] = {name: policy.names(spellings) for name, spellings in SPELLINGS.items()}

    @property
    def full(self) -> bool:
        """Whether no further types are remembered; all of them get the names of `unknown`."""
        return len(self.known) >= _MAX_TYPES

    def unknown(self) -> Names:
        """The names of a type nobody knows: all that are known for any type."""
        return self._policy.names(None)

    def meet(self, event_type: str) -> Names:
        """The names of a type. Slow for a new one, whose registry is imported: not for a request's thread."""
        names = self.known.get(event_type)
        if names is not None:
            return names
        spellings = None
        try:
            with gate:
                from birdfeed_schemas.registry import spellings_of

                spellings = spellings_of(event_type)
        except Exception as error:  # another package's fault, in its entry point
            say(logging.ERROR, "entry points", "event types of other packages can't be read: %s", type(error).__name__)
        if spellings is None:
            say_once(
                logging.WARNING,
                f"type {event_type}",
                "no event type %r is known here; where workers don't know it either, its events become dead letters",
                event_type,
            )
        names = self._policy.names(spellings)
        if not self.full:
            self.known[event_type] = names
        return names


def usable(event_type: object) -> bool:
    """Whether this can be an event type: printable text, not too long, for it becomes part of Redis keys and logs."""
    return isinstance(event_type, str) and 0 < len(event_type) <= _MAX_LENGTH and event_type.isprintable()
