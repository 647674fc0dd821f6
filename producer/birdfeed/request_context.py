"""Fields that all events of a request share, set once: `context`.

    with birdfeed.context(user=user.id, tier="gold", request_id=request.headers["x-request-id"]):
        ...  # every event tracked in here has them, unless it says otherwise

Held in a contextvar: it follows the program across await, into tasks, asyncio.to_thread and Starlette's thread pool. A
bare threading.Thread or an executor of the program's own starts without it, unless run by contextvars.copy_context().
"""

import contextlib
import logging
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, Self, Unpack

from birdfeed_schemas.fields import COMMON
from birdfeed_schemas.tables.hints import unknown_field

from birdfeed.logging_once import log_once
from birdfeed.typed import ContextFields

#: What events inherit here; None where nothing is set.
inherited: ContextVar[Mapping[str, Any] | None] = ContextVar("birdfeed_context", default=None)
_ALLOWED: Final = frozenset(ContextFields.__annotations__)
#: Each of these fields → every name it may have in an event.
_SPELLINGS: Final = {name: frozenset((name, *COMMON[name])) for name in _ALLOWED}


class context:  # noqa: N801 - used like a function, as track is
    """Give fields to every event tracked in a `with` block, by track_event, track and the integrations.

    Blocks nest: an inner one adds to the outer one's fields. An event's own field wins, None too. A stream that was
    begun in the block keeps the fields to its end, wherever it is read. Never raises: a field that can't be inherited
    is left out, and the log says so once.

    Args:
        fields: user, username, tier, request_id, environment, organization, project, referrer, trace_id, span_id.
    """

    def __init__(self, **fields: Unpack[ContextFields]) -> None:
        self._fields = {name: value for name, value in fields.items() if name in _ALLOWED}
        for name in fields.keys() - _ALLOWED:
            log_once(logging.WARNING, f"context {name}", "%s", unknown_field("a context", name, _ALLOWED))
        self._tokens: list[Token[Mapping[str, Any] | None]] = []

    def __enter__(self) -> Self:
        self._tokens.append(inherited.set({**(inherited.get() or {}), **self._fields}))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # a generator's block, closed from a context where nothing was set
            inherited.reset(self._tokens.pop())


def merged(fields: Mapping[str, Any], event_data: Any) -> Any:
    """An event's data with the fields it inherits; its own win, in whatever spelling."""
    if not isinstance(event_data, Mapping):
        return event_data
    data = dict(event_data)
    for name, value in fields.items():
        if _SPELLINGS[name].isdisjoint(data):
            data[name] = value
    return data
