"""A WSGI program that tracks one event per request; gunicorn and uWSGI run it."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import birdfeed

if os.environ.get("TRACK_AT_IMPORT"):
    birdfeed.track_event("text_generation", {"model": "m", "request_id": "0"})
if os.environ.get("FLUSH_AT_IMPORT"):
    birdfeed.start()
    assert birdfeed.flush()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    number = environ["PATH_INFO"].strip("/")
    birdfeed.track_event("text_generation", {"model": "m", "request_id": number})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
