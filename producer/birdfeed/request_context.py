"""Fields that all events of a request share, set once: `context`.

    with birdfeed.context(user=user.id, tier="gold", request_id=request.headers["x-request-id"]):
        ...  # every event tracked in here has them, unless it says otherwise

Held in a contextvar: it follows the program across await, into tasks, asyncio.to_thread and Starlette's thread pool. A
bare threading.Thread or an executor of the program's own starts without it, unless run by contextvars.copy_context().
"""

import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Final, Self, Unpack

from birdfeed_schemas.fields import COMMON
from birdfeed_schemas.tables.hints import unknown_field

from birdfeed.logging_once import error_location, log_once, log_throttled
from birdfeed.typed import ContextFields

#: What events inherit here; None where nothing is set.
inherited: ContextVar[Mapping[str, Any] | None] = ContextVar("birdfeed_context", default=None)
#: Events that wait for the answer of one request; a request that tracks more gets the others sent at once.
_MOST_HELD: Final = 100
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


class Request:
    """A request that is being answered, as integrations of web frameworks follow it: events wait here for its status.

    with Request(user=...) as request:
        ...                       # the handler runs
        request.answered(404)     # its answer begins
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.answered(500 if isinstance(error, Exception) else None)
        with contextlib.suppress(ValueError):  # left in another context than it was entered in
            serving.reset(self._token)
        self._context.__exit__(kind, error, trace)

    def hold(self, send: Callable[[int | None], None]) -> None:
        """Call `send` with the status of the answer, once that begins; at once where it has."""
        self._held.append(send)
        if self._answered or len(self._held) > _MOST_HELD:
            self._release()

    def answered(self, status: int | None) -> None:
        """The answer begins; its first status counts. None where it is not known."""
        if not self._answered:
            self._status = status
            self._answered = True
        self._release()

    def _release(self) -> None:
        while True:
            try:
                send = self._held.popleft()
            except IndexError:  # all are sent, here or by another thread
                return
            send(self._status)


#: The request that this code serves, where an integration follows it.
serving: ContextVar[Request | None] = ContextVar("birdfeed_request", default=None)


def told_by(tell: Callable[[Any], ContextFields] | None, request: Any) -> ContextFields:
    """What a program's own function says about a request; nothing where there is none, or where it fails."""
    try:
        return tell(request) if tell is not None else {}
    except Exception as error:  # the program's own code; its request must go on
        log_throttled(logging.ERROR, "context", "the context of a request can't be read: %s", error_location(error))
        return {}


def merged(fields: Mapping[str, Any], event_data: Any) -> Any:
    """An event's data with the fields it inherits; its own win, in whatever spelling."""
    if not isinstance(event_data, Mapping):
        return event_data
    data = dict(event_data)
    for name, value in fields.items():
        if _SPELLINGS[name].isdisjoint(data):
            data[name] = value
    return data
