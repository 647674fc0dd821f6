"""Follow the requests of an SDK's client: one event for each, failed ones too, and streams until their end.

The modules openai, anthropic and google_genai read requests and answers; this module makes the events. The program gets
each answer as the SDK made it, and errors in this module are logged and never raised.
"""

import functools
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from birdfeed.logging_once import error_location, log_throttled
from birdfeed.tracking.track import TrackedEvent, Work
from birdfeed.typed import EventType

#: Adds fields from an answer, or from a chunk of a streamed one, to the event; True if the answer is complete.
Read: TypeAlias = Callable[[TrackedEvent, Any], bool]

#: The model's name if neither request nor answer has one.
UNKNOWN: Final = "unknown"


def logged(error: Exception) -> None:
    """Log an error in an integration, at most once a minute."""
    log_throttled(logging.ERROR, "integration", "a call of an SDK could not be read: %s", error_location(error))


class Call:
    """One request to a provider, and its event."""

    def __init__(
        self, event_type: str, fields: Mapping[str, Any], read: Read, hides: Callable[[Any], bool] | None = None
    ) -> None:
        """`fields` are read from the request; chunks for which `hides` is true are not passed on to the program."""
        self._work = Work(EventType(event_type), {name: value for name, value in fields.items() if value is not None})
        self._read = read
        self._hides = hides
        self._complete = False

    def see(self, part: object) -> bool:
        """Read an answer or a chunk of one; returns whether to pass it on to the program."""
        try:
            self._complete = self._read(self._work.event, part) or self._complete
            return self._hides is None or not self._hides(part)
        except Exception as error:  # not the form of the SDK's answers
            logged(error)
            return True

    def end(self, error: BaseException | None = None) -> None:
        """Send the event, once. A stream that was closed after the end of its answer is a success."""
        event = self._work.event
        event.setdefault("model", event.get("model_used") or UNKNOWN)
        self._work.end(None if isinstance(error, GeneratorExit) and self._complete else error)

    def follow(self, answer: Any) -> Any:
        """Follow what the SDK returned: its streams until their end; anything else is read now."""
        if hasattr(answer, "_iterator") and hasattr(answer, "close"):
            return self._stream(answer)
        self.see(answer)
        self.end()
        return answer

    def _stream(self, stream: Any) -> Any:
        # Keep no reference to the stream, so that one that is dropped is closed immediately, as without birdfeed.
        own, close, answer = weakref.ref(stream), type(stream).close, stream.response
        if hasattr(stream, "__anext__"):
            stream._iterator = AsyncParts(stream._iterator, self)

            async def closing_async() -> None:
                try:
                    await (close(live) if (live := own()) is not None else answer.aclose())
                finally:
                    self.end(GeneratorExit())

            stream.close = closing_async
            return stream

        def closing() -> None:
            try:
                close(live) if (live := own()) is not None else answer.close()
            finally:
                self.end(GeneratorExit())

        stream._iterator = Parts(stream._iterator, self)
        stream.close = closing
        return stream

    def raw(self, response: Any) -> Any:
        """Follow a raw response, which the program parses: its event is sent when it is parsed or garbage-collected."""
        parse, followed = response.parse, False

        def parsed(answer: Any) -> Any:
            nonlocal followed
            if not followed:
                followed = True
                self.follow(answer)
            return answer

        if inspect.iscoroutinefunction(parse):

            async def parsing_async(*args: Any, **kwargs: Any) -> Any:
                return parsed(await parse(*args, **kwargs))

            response.parse = parsing_async
        else:
            response.parse = lambda *args, **kwargs: parsed(parse(*args, **kwargs))
        weakref.finalize(response.http_response, self.end)
        return response


class Parts:
    """A stream's iterator: `call` sees each chunk, and ends when the iterator ends, fails or is garbage-collected."""

    def __init__(self, parts: Iterator[Any], call: Call) -> None:
        self._parts = parts
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while True:
            try:
                part = next(self._parts)
            except StopIteration:
                self._call.end()
                raise
            except BaseException as error:
                self._call.end(error)
                raise
            if self._call.see(part):
                return part

    def __del__(self) -> None:
        self._call.end(GeneratorExit())


class AsyncParts:
    """`Parts` for async iterators."""

    def __init__(self, parts: AsyncIterator[Any], call: Call) -> None:
        self._parts = parts
        self._call = call

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                part = await anext(self._parts)
            except StopAsyncIteration:
                self._call.end()
                raise
            except BaseException as error:
                self._call.end(error)
                raise
            if self._call.see(part):
                return part

    def __del__(self) -> None:
        self._call.end(GeneratorExit())


def followed(function: Callable[..., Any], begin: Callable[..., Call | None]) -> Callable[..., Any]:
    """Wrap `function` to make an event for each call.

    Args:
        function: A function or coroutine function that makes one request.
        begin: Called with the same arguments before the request; returns None for a request to ignore.
    """

    def begun(*args: Any, **kwargs: Any) -> Call | None:
        try:
            return begin(*args, **kwargs)
        except Exception as error:  # not the form of the SDK's requests
            logged(error)
            return None

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def request_async(*args: Any, **kwargs: Any) -> Any:
            call = begun(*args, **kwargs)
            if call is None:
                return await function(*args, **kwargs)
            try:
                answer = await function(*args, **kwargs)
            except BaseException as error:
                call.end(error)
                raise
            return _answered(call, answer)

        return request_async

    @functools.wraps(function)
    def request(*args: Any, **kwargs: Any) -> Any:
        call = begun(*args, **kwargs)
        if call is None:
            return function(*args, **kwargs)
        try:
            answer = function(*args, **kwargs)
        except BaseException as error:
            call.end(error)
            raise
        return _answered(call, answer)

    return request


def _answered(call: Call, answer: Any) -> Any:
    try:
        if hasattr(answer, "__next__") and not hasattr(answer, "_iterator"):
            return Parts(answer, call)
        if hasattr(answer, "__anext__") and not hasattr(answer, "_iterator"):
            return AsyncParts(answer, call)
        if hasattr(answer, "http_response") and hasattr(answer, "parse"):
            return call.raw(answer)
        return call.follow(answer)
    except Exception as error:  # an incompatible version of the SDK: the program must still get the answer
        logged(error)
        call.end()
        return answer


def instrument_requests(client: Any, begin: Callable[..., Call | None], again: Callable[[Any], Any]) -> None:
    """Follow all requests of a client that Stainless generated, as OpenAI's and Anthropic's are.

    Args:
        client: All its requests, with their retries, are made by its method `request`.
        begin: Called with the arguments of `request`.
        again: Instruments a client that with_options() makes from this one.
    """
    if hasattr(client.request, "_birdfeed"):
        return
    request = followed(client.request, begin)
    request._birdfeed = True  # type: ignore[attr-defined]
    client.request = request

    def copied(copy: Callable[..., Any]) -> Callable[..., Any]:
        return functools.wraps(copy)(lambda *args, **kwargs: again(copy(*args, **kwargs)))

    client.copy = client.with_options = copied(client.copy)
