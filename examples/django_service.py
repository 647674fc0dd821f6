"""Django in one file, and Google's Gen AI SDK.

gunicorn django_service:application
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from birdfeed.integrations.google_genai import instrument
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path
from google import genai


def of_request(request: HttpRequest) -> dict[str, Any]:
    """What the events of a request have."""
    return {"user": request.headers.get("x-user"), "request_id": request.headers.get("x-request-id")}


if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        SECRET_KEY=os.environ.get("SECRET_KEY", "only-for-this-example"),
        INSTALLED_APPS=["birdfeed.integrations.django.BirdfeedConfig"],
        MIDDLEWARE=["birdfeed.integrations.django.birdfeed_middleware"],
        BIRDFEED={"environment": "examples", "context": of_request},
    )
client = instrument(genai.Client())
MODEL = "gemini-2.5-flash"


def answer(request: HttpRequest) -> JsonResponse:
    """A whole answer; what the model refuses is the client's error."""
    try:
        got = client.models.generate_content(model=MODEL, contents=json.loads(request.body)["prompt"])
    except genai.errors.ClientError:
        return JsonResponse({"detail": "the model refuses this prompt"}, status=422)
    return JsonResponse({"text": got.text})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """The SDK's stream is read while the answer is sent."""
    prompt = json.loads(request.body)["prompt"]

    def parts() -> Iterator[str]:
        for part in client.models.generate_content_stream(model=MODEL, contents=prompt):
            yield part.text or ""

    return StreamingHttpResponse(parts(), content_type="text/plain")


urlpatterns = [path("answer", answer), path("stream", stream)]
application = get_wsgi_application()
