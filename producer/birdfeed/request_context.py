"""`context`: set fields that all events of a request share.

    with birdfeed.context(user=user.id, tier="gold", request_id=request.headers["x-request-id"]):
        ...  # every event tracked in here gets them, unless it sets its own

The fields are held in a contextvar, so they follow the program across await, into tasks, asyncio.to_thread and
Starlette's thread pool. A bare threading.Thread or the program's own executor starts without them, unless the function
is run with contextvars.copy_context().
"""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Any, Final, Self, Unpack

from birdfeed_schemas.fields import COMMON
from birdfeed_schemas.tables.hints import unknown_field

from birdfeed.logging_once import error_location, log_once, log_throttled
from birdfeed.typed import ContextFields

#: The fields that events inherit in the current context; None if none are set.
inherited: ContextVar[Mapping[str, Any] | None] = ContextVar("birdfeed_context", default=None)
#: Events that may wait for one request's response. If a request tracks more, the oldest are sent without waiting.
_MOST_HELD: Final = 100
_ALLOWED: Final = frozenset(ContextFields.__annotations__)
#: Each of these fields → every spelling that it may have in an event.
_SPELLINGS: Final = {name: frozenset((name, *COMMON[name])) for name in _ALLOWED}


class context:  # noqa: N801 - used like a function, as track is
    """Add fields to every event tracked in a `with` block, by track_event, track or the integrations.

    Blocks nest: an inner one adds to the outer one's fields. A field that the event sets itself wins, even if it is
    None. A stream that began in the block keeps the fields to its end, wherever it is read. Never raises: a field that
    can't be inherited is left out, and the log says so once.

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

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ValueError):  # a block in a generator that is closed from another context
            inherited.reset(self._tokens.pop())


class Request:
    """A request as the web frameworks' integrations follow it. Events wait here for the status of its response.

    with Request(user=...) as request:
        ...                       # the handler runs
        request.answered(404)     # its response begins
    """

    def __init__(self, **fields: Unpack[ContextFields]) -> None:
        self._context = context(**fields)
        self._answered = False
        self._status: int | None = None
        self._held: deque[Callable[[int | None], None]] = deque()

    def __enter__(self) -> Self:
        self._context.__enter__()
        self._token = serving.set(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.answered(500 if isinstance(error, Exception) else None)
        with contextlib.suppress(ValueError):  # exited in another context than it was entered in
            serving.reset(self._token)
        self._context.__exit__(kind, error, trace)

    def hold(self, send: Callable[[int | None], None]) -> None:
        """Call `send` with the response's status once the response begins; immediately if it has begun."""
        self._held.append(send)
        if self._answered or len(self._held) > _MOST_HELD:
            self._release()

    def answered(self, status: int | None) -> None:
        """Call this when the response begins; the first status counts. None means it is not known."""
        if not self._answered:
            self._status = status
            self._answered = True
        self._release()

    def _release(self) -> None:
        while True:
            try:
                send = self._held.popleft()
            except IndexError:  # all were sent, here or by another thread
                return
            send(self._status)


#: The request that this code serves, if an integration follows it.
serving: ContextVar[Request | None] = ContextVar("birdfeed_request", default=None)


def told_by(tell: Callable[[Any], ContextFields] | None, request: Any) -> ContextFields:
    """The fields that a program's own function returns for a request; empty if there is no function or it fails."""
    try:
        return tell(request) if tell is not None else {}
    except Exception as error:  # raised by the program's own code; the request must continue
        log_throttled(logging.ERROR, "context", "the context of a request can't be read: %s", error_location(error))
        return {}


def merged(fields: Mapping[str, Any], event_data: Any) -> Any:
    """An event's data with the fields it inherits; its own fields win, in any spelling."""
    if not isinstance(event_data, Mapping):
        return event_data
    data = dict(event_data)
    for name, value in fields.items():
        if _SPELLINGS[name].isdisjoint(data):
            data[name] = value
    return data
