"""AWS Lambda and the OpenAI SDK: the events are in Redis before the answer is returned.

The function's handler is lambda_function.handler.
"""

from typing import Any

import openai
from birdfeed.integrations.functions import flush_after
from birdfeed.integrations.openai import instrument

client = instrument(openai.OpenAI())


@flush_after
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Its events have the invocation's id as their request_id."""
    got = client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": event["prompt"]}], user=event["user"]
    )
    return {"statusCode": 200, "body": got.choices[0].message.content}
