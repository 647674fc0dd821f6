"""`track`: time a piece of work and send exactly one event about it, however it ends.

    with track("image_generation", model="flux", user=user.id) as event:
        image = await generate(...)
        event["usage"] = image.usage

    @track("text_generation", model="gpt-4o-mini")
    async def answer(question):
        ...
        current_event()["usage"] = response.usage

It sets start_time, end_time, duration (ms, by a monotonic clock), status, and error if the work raised, unless the
handler set them. The work's exception always reaches the caller. Work that is cancelled, and a stream whose client
disconnected, get the status "error" and the error type "cancelled". A decorated handler that returns a web framework's
4xx or 5xx response failed, too (http_status.py). For a block, only the framework's integration knows the response: an
event without a usage, status or error of its own waits for it.
"""

import contextlib
import functools
import inspect
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Any, Final, Literal, Self, TypeVar, Unpack, cast, overload

from birdfeed_schemas.fields import COMMON

from birdfeed import api
from birdfeed.encoding.added_fields import active_span
from birdfeed.encoding.encoder import now_text
from birdfeed.encoding.redact import is_given
from birdfeed.request_context import inherited, merged, serving
from birdfeed.tracking.http_status import CLIENT_ERROR, error_of_status, http_status
from birdfeed.tracking.streaming import async_generator, generator, response
from birdfeed.typed import EventType, ImageGenerationFields, TextGenerationFields

Function = TypeVar("Function", bound=Callable[..., Any])

#: Names of the exceptions that mean "cancelled" in asyncio, concurrent.futures, trio, gevent and Starlette, and for a
#: closed generator. Names, because importing these libraries would slow down every program.
_CANCELLED: Final = frozenset({"CancelledError", "Cancelled", "GeneratorExit", "GreenletExit", "ClientDisconnect"})


#: Every spelling of the field that shows that a model has answered.
USAGE: Final = frozenset({"usage", *COMMON["usage"]})


class TrackedEvent(dict[str, Any]):
    """The event being built: set its fields as items, as attributes, or by update()."""

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


_current: ContextVar[TrackedEvent | None] = ContextVar("birdfeed_event", default=None)


def current_event() -> TrackedEvent:
    """The event of the innermost tracked work that this code runs in; outside of any, an event that is never sent."""
    event = _current.get()
    return event if event is not None else TrackedEvent()


class Work:
    """One piece of work being timed; `end` sends its event, once."""

    def __init__(self, event_type: EventType, fields: Mapping[str, Any]) -> None:
        inherits = inherited.get()
        self.event = TrackedEvent(fields if inherits is None else merged(inherits, fields))
        if span := active_span():  # read now, because the span may not be active when a stream ends
            self.event = TrackedEvent({**span, **self.event})
        self._event_type = event_type
        self._started_at = now_text()
        self._started = time.perf_counter()
        self._ended = False

    def enter(self) -> Token[TrackedEvent | None]:
        """Make this the current event; `leave` undoes it, in the same context."""
        return _current.set(self.event)

    def leave(self, token: Token[TrackedEvent | None]) -> None:
        """Make the previous event the current one again."""
        _current.reset(token)

    def __enter__(self) -> Self:
        self.token = self.enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the work if it raised; otherwise not yet, because what it returned may be a stream."""
        if error is not None:
            self.end(error)
        self.leave(self.token)

    def end(self, error: BaseException | None = None, answer: object = None) -> None:
        """End the work, which succeeded or raised `error`; `answer` is what it returned."""
        if self._ended:
            return
        self._ended = True
        event = dict(self.event)
        if error is not None:
            event["status"] = "error"
            event.setdefault("error", _described(error))
        event.setdefault("start_time", self._started_at)
        event.setdefault("end_time", now_text())
        event.setdefault("duration", round((time.perf_counter() - self._started) * 1000, 3))
        status = http_status(answer) if answer is not None else None
        if status is None and (request := serving.get()) is not None and _may_have_failed(event):
            request.hold(functools.partial(self._send, event))
        else:
            self._send(event, status)

    def _send(self, event: dict[str, Any], status: int | None) -> None:
        """Send the event; `status` is the HTTP status of the request's response, if known."""
        if "status" not in event and not is_given(event.get("error")) and (failed := error_of_status(status)):
            event["error"] = failed
        event.setdefault("status", "error" if is_given(event.get("error")) else "success")
        api.track_own(self._event_type, event)


def _may_have_failed(event: Mapping[str, Any]) -> bool:
    """Whether only the response can show how the work ended: nothing in the event shows that a model has answered."""
    return "status" not in event and not is_given(event.get("error")) and USAGE.isdisjoint(event)


def _described(error: BaseException) -> object:
    if any(kind.__name__ in _CANCELLED for kind in type(error).__mro__):
        return {"type": "cancelled", "message": type(error).__name__}
    refused = error_of_status(http_status(error))
    if refused is None or refused["type"] != CLIENT_ERROR:
        return error
    try:
        return {**refused, "message": str(error)}
    except Exception:  # raised by the exception's own code
        return {**refused, "message": type(error).__name__}


#: The work of the `with` blocks entered in this task or thread, innermost last.
_entered: ContextVar[tuple[Work, ...]] = ContextVar("birdfeed_entered", default=())


class track:  # noqa: N801 - used like a function, as contextlib.suppress is
    """Time a `with` block, or each call of a decorated function, and send its event; see the module's docstring.

    Args:
        event_type: As for track_event.
        fields: Fields of the event that are known before the work starts, such as model and user.

    Raises:
        TypeError: It was used as a decorator without parentheses.
    """

    @overload
    def __init__(self, event_type: Literal["text_generation"], /, **fields: Unpack[TextGenerationFields]) -> None: ...
    @overload
    def __init__(self, event_type: Literal["image_generation"], /, **fields: Unpack[ImageGenerationFields]) -> None: ...
    @overload
    def __init__(self, event_type: EventType, /, **fields: Any) -> None: ...
    def __init__(self, event_type: str, /, **fields: Any) -> None:
        if callable(event_type):  # @track without parentheses: raise when the program starts, not in a request
            raise TypeError('track needs the event type: @track("text_generation")')
        self._event_type = EventType(event_type)
        self._fields = fields
        self._open: list[Work] = []

    def __enter__(self) -> TrackedEvent:
        work = self._begin().__enter__()
        self._open.append(work)
        _entered.set((*_entered.get(), work))
        return work.event

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        work = self._innermost()
        if work is None:
            return
        self._open.remove(work)
        _entered.set(tuple(one for one in _entered.get() if one is not work))
        with contextlib.suppress(ValueError):  # a block in a generator that is closed from another context
            work.leave(work.token)
        work.end(error)

    def _innermost(self) -> Work | None:
        """The block being exited: one object may be entered in several tasks and threads at once."""
        for work in reversed(_entered.get()):
            if work in self._open:
                return work
        return self._open[-1] if self._open else None

    async def __aenter__(self) -> TrackedEvent:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Function) -> Function:
        """As a decorator: one event for each call, or for each stream that the function returns."""
        wrapped: Callable[..., Any]
        if inspect.isasyncgenfunction(function):
            wrapped = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapped = self._around_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapped = self._around_coroutine(function)
        else:
            wrapped = self._around_function(function)
        return cast(Function, functools.wraps(function)(wrapped))

    def _begin(self) -> Work:
        return Work(self._event_type, self._fields)

    def _around_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def tracked(*args: Any, **kwargs: Any) -> Any:
            with self._begin() as work:
                result = function(*args, **kwargs)
            return response(result, work)

        return tracked

    def _around_coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def tracked(*args: Any, **kwargs: Any) -> Any:
            with self._begin() as work:
                result = await function(*args, **kwargs)
            return response(result, work)

        return tracked

    def _around_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def tracked(*args: Any, **kwargs: Any) -> Any:
            return (yield from generator(function(*args, **kwargs), self._begin()))

        return tracked

    def _around_async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def tracked(*args: Any, **kwargs: Any) -> Any:
            stream = async_generator(function(*args, **kwargs), self._begin())
            try:
                async for part in stream:
                    yield part
            finally:
                await stream.aclose()

        return tracked

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._event_type!r})"
