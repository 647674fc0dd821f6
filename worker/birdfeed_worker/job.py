"""The function that rq jobs name: `birdfeed_worker.job.deliver` is a wire contract.

birdfeed's workers don't call it: they reserve many jobs and pass them to pipeline.delivery together.
"""


def deliver(packed: str) -> None:
    """Only a stock rq worker calls it.

    Raises:
        RuntimeError: Always: a stock rq worker on this queue loses jobs when it is killed, and can't settle events one
            by one. The job fails but keeps its events, and `birdfeed dead replay` or `rq requeue` puts it back.
    """
    raise RuntimeError("birdfeed's jobs need birdfeed's workers: run `birdfeed worker`, then requeue this job")
