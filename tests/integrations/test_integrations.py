"""Integrations with the real web frameworks."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import birdfeed
import django  # type: ignore[import-untyped, unused-ignore]
import flask
import pytest
from birdfeed import api, pytest_plugin, track
from birdfeed.client import Client
from birdfeed.integrations.asgi import BirdfeedMiddleware, birdfeed_lifespan
from birdfeed.integrations.flask import Birdfeed
from birdfeed.logging_once import forget
from birdfeed.testing import Captured, capture
from birdfeed_schemas.wire.keys import Keys
from django.conf import settings as django_settings  # type: ignore[import-untyped, unused-ignore]
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse  # type: ignore[import-untyped, unused-ignore]
from django.test import RequestFactory  # type: ignore[import-untyped, unused-ignore]
from fastapi import FastAPI
from fastapi.testclient import TestClient
from redis import Redis

from tests.support.producer.queued import events_in

#: By name, so that the tests also run where birdfeed is not installed and pytest does not know its plugin.
birdfeed_events = pytest_plugin.birdfeed_events


@pytest.fixture
def producer() -> Iterator[Client]:
    """A producer that sends to a real Redis."""
    forget()
    made = Client()
    before = api.use_client(made)
    yield made
    made.close()
    api.use_client(before)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, valkey_url: str, redis: Redis, tmp_path: Path) -> None:
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    monkeypatch.setenv("BIRDFEED_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("BIRDFEED_FLUSH_INTERVAL", "60")
    monkeypatch.setenv("BIRDFEED_CLOSE_TIMEOUT", "60")


# ---- ASGI


def test_fastapis_lifespan(env: None, producer: Client, redis: Redis, keys: Keys) -> None:
    """Started before the first request, flushed at the end; the program's own lifespan runs inside."""
    seen: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        seen.append(birdfeed.stats().state)
        yield {"number": 5}
        birdfeed.track_event("text_generation", {"model": "last"})

    app = FastAPI(lifespan=birdfeed_lifespan(own))

    @app.get("/")
    async def index() -> None:
        birdfeed.track_event("text_generation", {"model": "m"})

    with TestClient(app) as client:
        client.get("/")
        assert events_in(redis, keys) == []

    assert seen == ["on"]
    assert [event["data"]["model"] for event in events_in(redis, keys)] == ["m", "last"]
    assert birdfeed.stats().state == "closed"


def test_any_asgi_program(env: None, producer: Client, redis: Redis, keys: Keys) -> None:
    """With the middleware."""
    app = FastAPI()

    @app.get("/")
    async def index() -> None:
        birdfeed.track_event("text_generation", {"model": "m"})

    with TestClient(BirdfeedMiddleware(app)) as client:
        assert birdfeed.stats().state == "on"
        client.get("/")

    assert len(events_in(redis, keys)) == 1


def test_wrong_settings_stop_the_start(monkeypatch: pytest.MonkeyPatch, producer: Client) -> None:
    """The program fails to start, rather than a request."""
    monkeypatch.setenv("BIRDFEED_BATCH_EVENTS", "many")
    with (
        pytest.raises(birdfeed.ConfigurationError, match="BIRDFEED_BATCH_EVENTS"),
        TestClient(FastAPI(lifespan=birdfeed_lifespan())),
    ):
        pass


def test_wrong_settings_do_not_break_a_programs_own_lifespan(
    monkeypatch: pytest.MonkeyPatch, producer: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A program with the middleware starts and stops as before, and the log says what is wrong."""
    monkeypatch.setenv("BIRDFEED_BATCH_EVENTS", "many")
    seen: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        seen.append("started")
        yield
        seen.append("ended")

    with TestClient(BirdfeedMiddleware(FastAPI(lifespan=own))):
        birdfeed.track_event("text_generation", {"model": "m"})

    assert seen == ["started", "ended"]
    assert "BIRDFEED_BATCH_EVENTS" in caplog.text
    assert birdfeed.stats().dropped == {"misconfigured": 1}


def test_a_decorated_handler_that_streams_ends_with_its_stream(birdfeed_events: Captured) -> None:
    """Starlette's StreamingResponse, complete and interrupted."""
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    @app.get("/{fail}")
    @track("text_generation", model="m")
    async def stream(fail: bool) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            yield "a"
            assert len(birdfeed_events) == 0 or fail
            yield "b"
            if fail:
                raise RuntimeError("in the middle")

        return StreamingResponse(parts())

    client = TestClient(app)
    assert client.get("/0").text == "ab"
    with pytest.raises(RuntimeError):
        client.get("/1")

    assert [event.data["status"] for event in birdfeed_events] == ["success", "error"]


# ---- Flask


def test_flask(
    producer: Client, valkey_url: str, redis: Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Settings come from the app's configuration."""
    app = flask.Flask("app")
    app.config.update(
        BIRDFEED_REDIS_URL=valkey_url,
        BIRDFEED_QUEUE="flask",
        BIRDFEED_SPOOL_DIR=str(tmp_path),
        BIRDFEED_QUUE="no setting",
    )
    extension = Birdfeed(before_send=lambda event: event)
    extension.init_app(app)

    @app.get("/")
    def index() -> str:
        birdfeed.track_event("text_generation", {"model": "m"})
        return "ok"

    assert app.test_client().get("/").text == "ok"
    assert app.extensions["birdfeed"] is extension
    assert "BIRDFEED_QUUE is not a birdfeed setting; did you mean BIRDFEED_QUEUE?" in caplog.text
    birdfeed.flush(60)
    assert len(events_in(redis, Keys("rq", "flask"))) == 1

    app.config["BIRDFEED_FLUSH_INTERVAL"] = "never"
    with pytest.raises(birdfeed.ConfigurationError):
        Birdfeed(app)


def test_flasks_streams(birdfeed_events: Captured) -> None:
    """A generator as the response, read to its end, and abandoned by the client."""
    app = flask.Flask("app")

    @app.get("/")
    @track("text_generation", model="m")
    def stream() -> flask.Response:
        return flask.Response(str(number) for number in range(3))

    assert app.test_client().get("/").text == "012"
    response = app.test_client().get("/", buffered=False)
    assert len(birdfeed_events) == 1
    next(iter(response.response))
    response.close()

    assert [event.data["status"] for event in birdfeed_events] == ["success", "error"]
    assert birdfeed_events[1].data["error"]["type"] == "cancelled"


# ---- Django


def test_django(producer: Client, valkey_url: str, redis: Redis, tmp_path: Path) -> None:
    """Settings come from Django's; the app is ready when Django is."""
    django_settings.configure(
        INSTALLED_APPS=["birdfeed.integrations.django.BirdfeedConfig"],
        BIRDFEED={
            "redis_url": valkey_url,
            "queue": "django",
            "spool_dir": tmp_path,
            "before_send": "tests.support.producer.fakes.add_project",
            "context": "tests.support.producer.fakes.of_request",
        },
    )
    django.setup()
    birdfeed.track_event("text_generation", {"model": "m"})
    birdfeed.flush(60)

    (event,) = events_in(redis, Keys("rq", "django"))
    assert event["data"] == {"model": "m", "project": "added"}

    with capture() as events:

        @track("text_generation", model="m")
        def view(request: HttpRequest) -> StreamingHttpResponse:
            return StreamingHttpResponse(part for part in (b"a", b"b"))

        response = view(RequestFactory().get("/"))
        assert len(events) == 0
        assert b"".join(response) == b"ab"
        given_up = view(RequestFactory().get("/"))
        given_up.close()

    assert [event.data["status"] for event in events] == ["success", "error"]

    from birdfeed.integrations.django import birdfeed_middleware

    def answer(request: HttpRequest) -> HttpResponse:
        with track("text_generation"):
            return HttpResponse(status=int(request.GET["status"]))

    async def answer_async(request: HttpRequest) -> HttpResponse:
        return answer(request)

    with capture() as events:
        birdfeed_middleware(answer)(RequestFactory().get("/a?status=200"))
        birdfeed_middleware(answer)(RequestFactory().get("/b?status=404"))
        asyncio.run(birdfeed_middleware(answer_async)(RequestFactory().get("/c?status=503")))

    assert [(event.data["referrer"], event.data.get("error")) for event in events] == [
        ("a.example", None),
        ("b.example", {"type": "client_error", "code": "404"}),
        ("c.example", {"type": "server_error", "code": "503"}),
    ]
