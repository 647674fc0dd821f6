"""Celery: tasks that track events. A prefork child that has done its max_tasks_per_child leaves by os._exit.

    app = Celery(...)
    flush_after_tasks()

Connects to Celery's signals: events are flushed after each task, and when a child is told to stop. A flush after a task
waits for Redis, a millisecond or two; `flush_after_tasks(each=False)` flushes at a child's end alone, which loses what
a child tracked that is killed, or that ends by max_tasks_per_child.
"""

from typing import Any

from celery.signals import task_postrun, worker_process_shutdown  # type: ignore[import-untyped, unused-ignore]

from birdfeed import api


def flush_after_tasks(*, each: bool = True) -> None:
    """Connect to the signals; once is enough, and more do no harm."""
    worker_process_shutdown.connect(_close, weak=False, dispatch_uid="birdfeed-close")
    if each:
        task_postrun.connect(_flush, weak=False, dispatch_uid="birdfeed-flush")


def _flush(**_: Any) -> None:
    api.flush()


def _close(**_: Any) -> None:
    api.close()
