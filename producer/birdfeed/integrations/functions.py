"""Flush at the end of a function, where the process may be gone right after: a pool's child, AWS Lambda, a job.

    with multiprocessing.Pool() as pool:                     # leaving the block kills the children
        pool.map(flush_after(work), items)

    @flush_after
    def lambda_handler(event, context): ...

The events are in Redis or on disk before the function's result is anybody's. Those of an AWS Lambda inherit the id of
its request as their request_id. Works with fork, spawn and forkserver: the wrapped function is pickled by its name, as
the function itself would be.
"""

import functools
import inspect
import logging
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

from birdfeed import api
from birdfeed.logging_once import log_throttled
from birdfeed.request_context import context

P = ParamSpec("P")
R = TypeVar("R")


class flush_after(Generic[P, R]):  # noqa: N801 - used like a function
    """A function that flushes when it ends, well or not; a coroutine function is awaited as before."""

    def __init__(self, function: Callable[P, R], *, timeout: float | None = None) -> None:
        """`timeout` is in seconds; None is the setting close_timeout."""
        self._function = function
        self._timeout = timeout
        functools.update_wrapper(self, function)
        self._is_coroutine_function = inspect.iscoroutinefunction(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, then flush."""
        if self._is_coroutine_function:
            return self._awaited(*args, **kwargs)  # type: ignore[return-value]  # a coroutine function gives a coroutine
        try:
            with _of_lambda(args):
                return self._function(*args, **kwargs)
        finally:
            self._heed(api.flush(self._timeout))

    async def _awaited(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with _of_lambda(args):
                return await self._function(*args, **kwargs)  # type: ignore[misc]
        finally:
            self._heed(await api.aflush(self._timeout))

    def _heed(self, safe: bool) -> None:
        if not safe:
            log_throttled(logging.ERROR, "flush after", "a flush did not end in time; events may be lost")

    def __reduce__(self) -> Any:
        # A decorated function is found by its name; one that was wrapped where it is used travels with what it wraps.
        module = inspect.getmodule(self._function)
        name = self._function.__qualname__
        if getattr(module, name, None) is self:
            return name
        return type(self), (self._function,)


def _of_lambda(args: tuple[Any, ...]) -> context:
    """What the events of an AWS Lambda inherit; nothing where the function is called otherwise."""
    request_id = getattr(args[1], "aws_request_id", None) if len(args) == 2 else None
    return context(request_id=request_id) if isinstance(request_id, str) else context()
