"""Follow a streamed response to its end: its event is sent after the last chunk, or when the client disconnects."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from birdfeed.tracking.track import Work

#: Modules of the classes of futures and tasks. They are recognised by module, because a mock has every attribute.
_FUTURES: Final = frozenset({"_asyncio", "concurrent.futures._base"})


def generator(stream: Generator[Any, Any, Any], work: "Work") -> Generator[Any, Any, Any]:
    """Wrap a generator: `work` is current while the generator's own code runs, and ends with it."""
    step: Any = stream.send
    given: Any = None
    while True:
        token = work.enter()
        try:
            part = step(given)
        except StopIteration as stop:
            work.end()
            return stop.value
        except BaseException as error:
            work.end(error)
            raise
        finally:
            work.leave(token)
        try:
            given = yield part
            step = stream.send
        except GeneratorExit as gone:
            _close(stream, work, gone)
            raise
        except BaseException as error:
            given, step = error, stream.throw


def _close(stream: Generator[Any, Any, Any], work: "Work", gone: BaseException) -> None:
    """Close the handler's generator, which may still set fields in its clean-up."""
    token = work.enter()
    try:
        stream.close()
    finally:
        work.leave(token)
        work.end(gone)


async def async_generator(stream: AsyncGenerator[Any, Any], work: "Work") -> AsyncGenerator[Any, Any]:
    """`generator` for async generators."""
    step: Any = stream.asend
    given: Any = None
    while True:
        try:
            part = await _current_while(work, step(given))
        except StopAsyncIteration:
            work.end()
            return
        except BaseException as error:
            work.end(error)
            raise
        try:
            given = yield part
            step = stream.asend
        except GeneratorExit as gone:
            try:
                await _current_while(work, stream.aclose())
            finally:
                work.end(gone)
            raise
        except BaseException as error:
            given, step = error, stream.athrow


async def _current_while(work: "Work", step: Awaitable[Any]) -> Any:
    token = work.enter()
    try:
        return await step
    finally:
        work.leave(token)


def response(result: Any, work: "Work") -> Any:
    """Follow what a handler returned: a stream to its end; with anything else the work ends now.

    Coroutines, tasks and futures are followed to their end, too. Known streams: generators, Starlette's and FastAPI's
    StreamingResponse, Django's StreamingHttpResponse, and Flask's Response over an iterator.
    """
    if isinstance(result, GeneratorType):
        return Parts(result, work)
    if isinstance(result, AsyncGeneratorType):
        return AsyncParts(result, work)
    if isinstance(result, CoroutineType):
        return _awaited(result, work)
    try:
        if any(kind.__module__ in _FUTURES for kind in type(result).__mro__):
            result.add_done_callback(lambda done: work.end(_error_of(done)))
            return result
        if hasattr(result, "body_iterator"):  # Starlette
            result.body_iterator = AsyncParts(result.body_iterator, work)
            return result
        if getattr(result, "streaming", False) and hasattr(result, "streaming_content"):  # Django
            content = result.streaming_content
            result.streaming_content = (
                AsyncParts(content, work) if hasattr(content, "__aiter__") else Parts(iter(content), work)
            )
            return result
        if getattr(result, "is_streamed", False) and hasattr(result, "iter_encoded"):  # Flask
            result.response = Parts(iter(result.response), work)
            return result
    except Exception as error:  # it only looked like such a response; the handler's response must still be sent
        work.end(error)
        return result
    work.end(answer=result)
    return result


async def _awaited(coroutine: Awaitable[Any], work: "Work") -> Any:
    """Wrap a coroutine that a plain function returned; the work ends with it."""
    try:
        result = await _current_while(work, coroutine)
    except BaseException as error:
        work.end(error)
        raise
    return response(result, work)


def _error_of(done: Any) -> BaseException | None:
    """The exception of a finished future; CancelledError if it was cancelled."""
    try:
        error: BaseException | None = done.exception()
    except BaseException as cancelled:
        return cancelled
    return error


class Parts:
    """An iterator that ends `work` when it ends, fails, is closed, or is garbage-collected."""

    def __init__(self, parts: Iterator[Any], work: "Work") -> None:
        self._parts = parts
        self._work = work

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        token = self._work.enter()
        try:
            return next(self._parts)
        except StopIteration:
            self._work.end()
            raise
        except BaseException as error:
            self._work.end(error)
            raise
        finally:
            self._work.leave(token)

    def close(self) -> None:
        """The client has disconnected, or the server has sent the response."""
        try:
            if callable(close := getattr(self._parts, "close", None)):
                close()
        finally:
            self._work.end(GeneratorExit())

    def __del__(self) -> None:
        self._work.end(GeneratorExit())


class AsyncParts:
    """`Parts` for async iterators."""

    def __init__(self, parts: AsyncIterator[Any], work: "Work") -> None:
        self._parts = parts
        self._work = work

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return await _current_while(self._work, self._parts.__anext__())
        except StopAsyncIteration:
            self._work.end()
            raise
        except BaseException as error:
            self._work.end(error)
            raise

    async def aclose(self) -> None:
        """The client has disconnected, or the server has sent the response."""
        try:
            if callable(aclose := getattr(self._parts, "aclose", None)):
                await aclose()
        finally:
            self._work.end(GeneratorExit())

    def __del__(self) -> None:
        self._work.end(GeneratorExit())
