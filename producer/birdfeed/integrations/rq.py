"""rq: jobs that track events. rq's worker runs each job in a child that exits by os._exit, which skips all exit hooks.

    rq worker --worker-class birdfeed.integrations.rq.BirdfeedWorker

Or, with a worker class of your own: `class MyWorker(FlushesEvents, Worker)`. Works with rq 1, 2 and 3, and with
SimpleWorker. A job's events inherit its id as their request_id. Only this module of the producer imports rq.
"""

from typing import Any

from rq import SimpleWorker, Worker

from birdfeed import api
from birdfeed.request_context import context


class FlushesEvents:
    """A worker that sends a job's events, within close_timeout, before it reports the job as done."""

    def perform_job(self, *args: Any, **kwargs: Any) -> Any:
        """Run the job, then flush, whether it succeeded or failed."""
        job = args[0] if args else kwargs.get("job")
        try:
            with context(request_id=getattr(job, "id", None)):
                return super().perform_job(*args, **kwargs)  # type: ignore[misc]  # the other base class, rq's worker
        finally:
            api.flush()


class BirdfeedWorker(FlushesEvents, Worker):
    """rq's worker that forks."""


class BirdfeedSimpleWorker(FlushesEvents, SimpleWorker):
    """rq's worker that runs jobs in its own process."""
