"""Celery: tasks that track events. A prefork child that reaches max_tasks_per_child exits by os._exit.

    app = Celery(...)
    flush_after_tasks()

It connects to Celery's signals: events are flushed after each task, and when a child is told to stop. A flush after a
task waits for Redis, a millisecond or two. `flush_after_tasks(each=False)` flushes only when a child stops; events are
then lost if the child is killed or reaches max_tasks_per_child. A task's events inherit its id as their request_id.
"""

from typing import Any, Final

from celery.signals import (  # type: ignore[import-untyped, unused-ignore]
    task_postrun,
    task_prerun,
    worker_process_shutdown,
)

from birdfeed import api
from birdfeed.request_context import context

#: Ids of running tasks → the context their events inherit.
_running: Final[dict[str, context]] = {}


def flush_after_tasks(*, each: bool = True) -> None:
    """Connect to the signals. Calling it more than once is harmless."""
    worker_process_shutdown.connect(_close, weak=False, dispatch_uid="birdfeed-close")
    task_prerun.connect(_begin, weak=False, dispatch_uid="birdfeed-begin")
    task_postrun.connect(_end, weak=False, dispatch_uid="birdfeed-end")
    if each:
        task_postrun.connect(_flush, weak=False, dispatch_uid="birdfeed-flush")


def _begin(task_id: str, **_: Any) -> None:
    inherited = _running[task_id] = context(request_id=task_id)
    inherited.__enter__()


def _end(task_id: str, **_: Any) -> None:
    inherited = _running.pop(task_id, None)
    if inherited is not None:
        inherited.__exit__(None, None, None)


def _flush(**_: Any) -> None:
    api.flush()


def _close(**_: Any) -> None:
    api.close()
