"""A Celery program whose tasks track one event each; `celery --app celery_app worker` runs it."""

import os

import birdfeed
from birdfeed.integrations.celery import flush_after_tasks
from celery import Celery  # type: ignore[import-untyped, unused-ignore]

#: The broker is the same server's database 5.
app = Celery("celery_app", broker=os.environ["BIRDFEED_REDIS_URL"].removesuffix("/0") + "/5")
app.conf.task_ignore_result = True
flush_after_tasks()


@app.task  # type: ignore[untyped-decorator, unused-ignore]
def work(number: int) -> None:
    """Track one event."""
    birdfeed.track_event("text_generation", {"model": "m", "request_id": str(number)})
