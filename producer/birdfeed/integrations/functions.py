"""Flush at the end of a function after which the process may be gone: in a pool's child, AWS Lambda, a job.

    with multiprocessing.Pool() as pool:                     # leaving the block kills the children
        pool.map(flush_after(work), items)

    @flush_after
    def lambda_handler(event, context): ...

The events are in Redis or on disk before the caller gets the function's result. Events of an AWS Lambda inherit the
invocation's request id as their request_id. It works with fork, spawn and forkserver: the wrapped function is pickled
by its name, as the function itself would be.
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
    """Wraps a function to flush when it returns or raises; coroutine functions stay coroutine functions."""

    def __init__(self, function: Callable[P, R], *, timeout: float | None = None) -> None:
        """`timeout` is in seconds; None means the setting close_timeout."""
        self._function = function
        self._timeout = timeout
        functools.update_wrapper(self, function)
        self._is_coroutine_function = inspect.iscoroutinefunction(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, then flush."""
        if self._is_coroutine_function:
            return self._awaited(*args, **kwargs)  # type: ignore[return-value]  # R is a coroutine here
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
        # A decorated function is pickled by its name; one wrapped where it is used is pickled with the function.
        module = inspect.getmodule(self._function)
        name = self._function.__qualname__
        if getattr(module, name, None) is self:
            return name
        return type(self), (self._function,)


def _of_lambda(args: tuple[Any, ...]) -> context:
    """The context of an AWS Lambda's events; empty if the function is called in another way."""
    request_id = getattr(args[1], "aws_request_id", None) if len(args) == 2 else None
    return context(request_id=request_id) if isinstance(request_id, str) else context()
