"""rq: jobs that track events. rq's worker runs each job in a child that leaves by os._exit, past every exit hook.

    rq worker --worker-class birdfeed.integrations.rq.BirdfeedWorker

Or, with a worker class of your own: `class MyWorker(FlushesEvents, Worker)`. Works with rq 1, 2 and 3, and with
SimpleWorker. This is the only module of the producer's that imports rq.
"""

from typing import Any

from rq import SimpleWorker, Worker

from birdfeed import api


class FlushesEvents:
    """A worker that sends a job's events when the job is done, before it says so: within close_timeout."""

    def perform_job(self, *args: Any, **kwargs: Any) -> Any:
        """Run the job, and flush, however it ends."""
        try:
            return super().perform_job(*args, **kwargs)  # type: ignore[misc]  # rq's worker, beside this in the class
        finally:
            api.flush()


class BirdfeedWorker(FlushesEvents, Worker):
    """rq's worker that forks."""


class BirdfeedSimpleWorker(FlushesEvents, SimpleWorker):
    """rq's worker that runs jobs in its own process."""
