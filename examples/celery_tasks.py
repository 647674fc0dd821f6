"""Celery and LiteLLM: a task's events are in Redis before the task is done, and have its id as their request_id.

celery --app celery_tasks worker
"""

import os
from typing import Any

import litellm
from birdfeed.integrations.celery import flush_after_tasks
from birdfeed.integrations.litellm import BirdfeedLogger
from celery import Celery

app = Celery("celery_tasks", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/5"))
flush_after_tasks()
litellm.callbacks = [BirdfeedLogger()]


@app.task(ignore_result=True)
def summarise(text: str, user: str) -> None:
    """Ask a model; a task that fails is an event, too."""
    got: Any = litellm.completion(
        model="openai/gpt-4o-mini", messages=[{"role": "user", "content": text}], user=user, num_retries=0
    )
    store(got.choices[0].message.content)


def store(summary: str) -> None:
    """Yours."""
