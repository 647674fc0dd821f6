"""The function that rq jobs name: `birdfeed_worker.job.deliver` is a wire contract.

birdfeed's workers don't call it job by job: they reserve many jobs and hand them to pipeline.delivery together.
"""


def deliver(packed: str) -> None:
    """What a job of birdfeed's names. Only birdfeed's own workers run it.

    Raises:
        RuntimeError: Always: a stock rq worker on this queue loses jobs at a kill and can't settle events one by one.
            The job fails, keeps its events, and `birdfeed dead replay` or `rq requeue` brings it back.
    """
    raise RuntimeError("birdfeed's jobs need birdfeed's workers: run `birdfeed worker`, then requeue this job")
