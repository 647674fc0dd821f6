"""Flask and the Anthropic SDK: the user of a request comes from its headers, and cached answers are events, too.

gunicorn flask_service:app
"""

from collections.abc import Iterator

import anthropic
import birdfeed
from birdfeed.integrations.anthropic import instrument
from birdfeed.integrations.flask import Birdfeed
from flask import Flask, Response, request

app = Flask(__name__)
Birdfeed(app, context=lambda asked: {"user": asked.headers.get("x-user"), "tier": asked.headers.get("x-tier")})
client = instrument(anthropic.Anthropic())
MODEL = "claude-haiku-4-5"
answers: dict[str, str] = {}


@app.post("/answer")
def answer() -> dict[str, str]:
    """A whole answer; a cached one costs nothing."""
    prompt = request.json["prompt"]
    if prompt in answers:
        birdfeed.track_event("text_generation", {"model": MODEL, "status": "success", "cache_hit": True})
    else:
        got = client.messages.create(model=MODEL, max_tokens=100, messages=[{"role": "user", "content": prompt}])
        answers[prompt] = "".join(part.text for part in got.content if part.type == "text")
    return {"text": answers[prompt]}


@app.post("/stream")
def stream() -> Response:
    """The SDK's stream is read while the answer is sent."""
    messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": request.json["prompt"]}]

    def parts() -> Iterator[str]:
        with client.messages.stream(model=MODEL, max_tokens=100, messages=messages) as got:
            yield from got.text_stream

    return Response(parts(), mimetype="text/plain")


@app.errorhandler(anthropic.BadRequestError)
def refused(error: anthropic.BadRequestError) -> tuple[dict[str, str], int]:
    return {"detail": "the model refuses this prompt"}, 422
