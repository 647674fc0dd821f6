"""The state that the HTTP handlers share: the workspace and its threads, limits, faults, the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from birdfeed_sandbox.faults.registry import FaultBook
from birdfeed_sandbox.http.rate_limits import RateLimiter
from birdfeed_sandbox.http.request_log import Journal
from birdfeed_sandbox.http.responses import Watch
from birdfeed_sandbox.settings import Settings
from birdfeed_sandbox.store.workspace import Workspace

P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """One thread, which runs one job after another."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a job in the thread, without blocking the event loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, lambda: job(*args, **kwargs))

    def close(self) -> None:
        """Finish the running job, and end the thread."""
        self._executor.shutdown(cancel_futures=True)


class Service:
    """The state behind the handlers.

    Attributes:
        engine: The thread for all calls to chDB, of which there is only one per process.
        parser: The thread that parses bodies, while another body is being written.
        reads: Number of queries counted against the read quota.
    """

    workspace: Workspace

    def __init__(self, settings: Settings, open_workspace: Callable[[], Workspace]) -> None:
        self.settings = settings
        self.faults = FaultBook()
        self.journal = Journal()
        self.limiter = RateLimiter()
        self.watch = Watch()
        self.reads = 0
        self.engine = Lane("chdb")
        self.parser = Lane("parser")
        self._open_workspace = open_workspace
        self._late: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the workspace."""
        self.workspace = await self.engine.run(self._open_workspace)

    async def stop(self) -> None:
        """Cancel delayed writes, and close the workspace."""
        self.drop_late()
        self.parser.close()
        await self.engine.run(self.workspace.close)
        self.engine.close()

    def later(self, job: Coroutine[Any, Any, None]) -> None:
        """Start a job that outlives its request."""
        task = asyncio.ensure_future(job)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def drop_late(self) -> None:
        """Cancel delayed writes."""
        for task in self._late:
            task.cancel()

    def forget(self) -> None:
        """Return to the initial state: no requests, limits, faults or delayed writes."""
        self.drop_late()
        self.faults.clear()
        self.journal.clear()
        self.limiter.clear()
        self.reads = 0
