"""The status of a response: a 4xx or 5xx is an error in the events that were tracked in the request."""

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import flask
import httpx
import pytest
from birdfeed import EventType, context, track, track_event
from birdfeed.integrations.asgi import BirdfeedMiddleware
from birdfeed.integrations.flask import Birdfeed
from birdfeed.integrations.functions import flush_after
from birdfeed.logging_once import forget
from birdfeed.request_context import Request, inherited, serving
from birdfeed.testing import Captured, capture
from birdfeed.tracking.http_status import error_of_status, http_status
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from werkzeug.exceptions import NotFound

CLIENT, SERVER = {"type": "client_error", "code": "400"}, {"type": "server_error", "code": "502"}


@pytest.fixture
def events() -> Iterator[Captured]:
    forget()
    with capture() as captured:
        yield captured
    assert (inherited.get(), serving.get()) == (None, None)


def told(events: Captured) -> list[tuple[Any, Any]]:
    return [(event.data.get("status"), event.data.get("error")) for event in events]


class Odd(JSONResponse):
    """A program's own response, whose status can't be read."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("status_code", "code"):
            raise RuntimeError
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (JSONResponse({}, 404), 404),
        (flask.Response(status=503), 503),
        (HTTPException(403), 403),
        (NotFound(), 404),
        (RequestValidationError([]), 422),
        (httpx.Response(429), None),
        (SimpleNamespace(status_code=500), None),
        (Odd.__new__(Odd), None),
        (None, None),
        (({}, 400), None),
    ],
)
def test_which_status_is_used(answer: object, status: int | None) -> None:
    """A web framework's response to a client, not a provider's response to the program, and not just any pair."""
    assert http_status(answer) == status


@pytest.mark.parametrize(
    ("status", "error"), [(None, None), (200, None), (399, None), (400, CLIENT), (502, SERVER), (600, None)]
)
def test_statuses_and_their_errors(status: int | None, error: dict[str, str] | None) -> None:
    """4xx is the client's fault, 5xx the service's."""
    assert error_of_status(status) == error


def test_a_decorated_handlers_answer(events: Captured) -> None:
    """Returned or raised; without any integration, sync and async. An error set by the handler itself has priority."""

    @track("text_generation", model="m")
    def handler(answer: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    @track("text_generation", model="m", status="success")
    async def sure() -> Any:
        return JSONResponse({}, 400)

    handler(JSONResponse({}, 400))
    handler(JSONResponse({}, 502))
    handler(JSONResponse({}, 200))
    with pytest.raises(HTTPException):
        handler(HTTPException(400, "the model is not known"))
    with pytest.raises(HTTPException):
        handler(HTTPException(502))
    asyncio.run(sure())

    assert told(events) == [
        ("error", CLIENT),
        ("error", SERVER),
        ("success", None),
        ("error", {**CLIENT, "message": "400: the model is not known"}),
        ("error", {"type": "HTTPException", "code": "502", "message": "502: Bad Gateway"}),
        ("success", None),
    ]


def test_a_block_waits_for_its_requests_answer(events: Captured) -> None:
    """Only if the block has no result of its own: a model's answer is billed, whatever happens to the request."""
    app = FastAPI()

    @app.post("/{status}")
    async def handler(status: int) -> JSONResponse:
        with track("text_generation", model="asked") as event:
            event["usage"] = {"prompt_tokens": 1}
        with track("text_generation", model="unsure"):
            seen = len(events)
        track_event("text_generation", {"model": "own"})
        assert len(events) == seen + 1  # the held event is not among them
        if status == 599:
            raise RuntimeError
        return JSONResponse({}, status)

    client = TestClient(BirdfeedMiddleware(app), raise_server_exceptions=False)
    for status in (200, 400, 502, 599):
        assert client.post(f"/{status}").status_code == (500 if status == 599 else status)

    unsure = [event for event in events if event.data["model"] == "unsure"]
    assert [(event.data["status"], event.data.get("error")) for event in unsure] == [
        ("success", None),
        ("error", CLIENT),
        ("error", SERVER),
        ("error", {"type": "server_error", "code": "500"}),
    ]
    assert {event.data["status"] for event in events if event.data["model"] == "asked"} == {"success"}


def test_flasks_answers(events: Captured) -> None:
    """Pairs of body and status, abort(), an unexpected exception, and an answer of the program's before_request."""
    app = flask.Flask("app")

    @app.before_request
    def refuse() -> Any:
        if "refused" in flask.request.args:
            with track("text_generation", model="refused"):
                return {}, 403
        return None

    Birdfeed(app, context=lambda request: {"request_id": request.args["id"]})

    @app.get("/pair")
    def pair() -> Any:
        with track("text_generation", model="pair"):
            return {}, 400

    @app.get("/abort")
    def abort() -> Any:
        with track("text_generation", model="abort"):
            flask.abort(400)

    @app.get("/late")
    def late() -> Any:
        with track("text_generation", model="late"):
            pass
        raise RuntimeError

    client = app.test_client()
    for path in ("/pair?id=1", "/abort?id=2", "/late?id=3", "/pair?id=4&refused", "/pair?id=5"):
        client.get(path)

    assert [
        (event.data["model"], event.data["request_id"], event.data["error"]["type"], event.data["error"]["code"])
        for event in events
    ] == [
        ("pair", "1", "client_error", "400"),
        ("abort", "2", "client_error", "400"),
        ("late", "3", "server_error", "500"),
        ("refused", "4", "client_error", "403"),
        ("pair", "5", "client_error", "400"),
    ]


def test_a_failing_context_fails_no_request(events: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and events are tracked without it."""
    app = flask.Flask("app")
    Birdfeed(app, context=lambda request: {"request_id": request.headers["missing"]})

    @app.get("/")
    def index() -> str:
        track_event("text_generation", {"model": "m"})
        return "ok"

    assert app.test_client().get("/").text == "ok"
    assert len(events) == 1
    assert "the context of a request can't be read" in caplog.text


def test_held_events_are_bounded_and_none_is_lost(events: Captured) -> None:
    """A request that tracks many, and one that never gets a response."""
    with Request() as request:
        for number in range(250):
            with track("text_generation", model=f"m{number}"):
                pass
        assert 100 <= len(events) < 250
        request.answered(400)
        request.answered(200)
        assert len(events) == 250
        with track("text_generation", model="late"):
            pass

    with Request(), track("text_generation", model="unanswered"):
        pass

    assert len({event.data["model"] for event in events}) == 252
    assert told(events)[-2:] == [("error", CLIENT), ("success", None)]


@pytest.mark.parametrize(
    ("args", "request_id"),
    [
        (({}, SimpleNamespace(aws_request_id="r-1")), "r-1"),
        (({}, SimpleNamespace(aws_request_id=None)), "outer"),
        (({},), "outer"),
    ],
)
def test_a_lambdas_events_have_its_requests_id(events: Captured, args: tuple[Any, ...], request_id: str) -> None:
    """Sync and async; a function that is not a Lambda handler inherits the present context."""

    def work(*args: Any) -> None:
        track_event(EventType("text_generation"), {"model": "m"})

    async def work_async(*args: Any) -> None:
        work()

    wrapped: Callable[..., Any] = flush_after(work)
    with context(request_id="outer"):
        wrapped(*args)
        asyncio.run(flush_after(work_async)(*args))

    assert [event.data["request_id"] for event in events] == [request_id] * 2


def test_a_celery_tasks_events_have_its_id(events: Captured) -> None:
    """From prerun to postrun; tasks that run concurrently in one process have their own ids."""
    from birdfeed.integrations.celery import flush_after_tasks
    from celery.signals import task_postrun, task_prerun  # type: ignore[import-untyped, unused-ignore]

    flush_after_tasks(each=False)
    task_prerun.send(sender=None, task_id="task-1")
    track_event("text_generation", {"model": "m"})
    task_postrun.send(sender=None, task_id="task-1")
    task_postrun.send(sender=None, task_id="never begun")
    track_event("text_generation", {"model": "m"})

    assert [event.data.get("request_id") for event in events] == ["task-1", None]


@pytest.mark.parametrize("by_name", [False, True])
def test_an_rq_jobs_events_have_its_id(events: Captured, by_name: bool) -> None:
    """However the worker calls it; the job's result and its exception are passed on."""
    from birdfeed.integrations.rq import FlushesEvents

    class Base:
        def perform_job(self, job: Any, queue: Any) -> bool:
            track_event("text_generation", {"model": "m"})
            if queue is None:
                raise RuntimeError
            return True

    class Worker(FlushesEvents, Base):
        pass

    job = SimpleNamespace(id="job-1")
    assert Worker().perform_job(**{"job": job, "queue": 1}) if by_name else Worker().perform_job(job, 1)
    with pytest.raises(RuntimeError):
        Worker().perform_job(job, None)

    assert [event.data["request_id"] for event in events] == ["job-1", "job-1"]
