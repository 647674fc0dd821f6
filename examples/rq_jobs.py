"""rq and the OpenAI SDK: a job that rq runs again gives the same event, by its idempotency key.

rq worker --worker-class birdfeed.integrations.rq.BirdfeedWorker summaries
"""

import openai
from birdfeed import track
from rq import get_current_job

client = openai.OpenAI()


def summarise(text: str, user: str) -> str | None:
    """A job, put into the queue by `Queue("summaries", connection=redis).enqueue(summarise, text, user)`."""
    job = get_current_job()
    with track(
        "text_generation", model="gpt-4o-mini", user=user, idempotency_key=job.id if job is not None else None
    ) as event:
        got = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": text}])
        event.update(usage=got.usage, model_used=got.model, response_id=got.id)
    return got.choices[0].message.content
