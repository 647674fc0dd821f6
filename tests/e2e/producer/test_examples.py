"""The services of examples/, each in its own process with a provider, and with the real frameworks and SDKs.

The counts in their rows are compared with the provider's own counts. docs/how-to/whole-apps.md shows the same files.
"""

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from birdfeed.testing import CapturedEvent
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.testing import priced
from celery import Celery
from redis import Redis
from rq import Queue
from rq.job import Job

from tests.support.commands import clean_environment
from tests.support.producer.apps.examples import EXAMPLES, provider_running, running, serving
from tests.support.producer.queued import events_in
from tests.support.wait import eventually

pytestmark = pytest.mark.slow

PROMPT: Final = "name six birds of the sea please"
GUNICORN: Final = ("gunicorn", "--bind", "127.0.0.1:{port}")


class Place:
    """Where an example runs: its provider's address and its environment."""

    def __init__(self, url: str, redis: Redis, redis_url: str, folder: Path) -> None:
        self.url = url
        self.redis = redis
        self.redis_url = redis_url
        self.folder = folder
        self.environment = {
            **clean_environment(),
            "BIRDFEED_REDIS_URL": redis_url,
            "BIRDFEED_SPOOL_DIR": str(folder),
            "CELERY_BROKER_URL": redis_url.removesuffix("/0") + "/5",
            "OPENAI_BASE_URL": f"{url}/v1",
            "ANTHROPIC_BASE_URL": url,
            "GOOGLE_GEMINI_BASE_URL": url,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"), "k"),
        }

    def running(self, *command: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """A process in examples/, which is terminated at the end."""
        return running(self.folder, self.environment, *command)

    def serving(self, *command: str) -> AbstractContextManager[httpx.Client]:
        """A web service; `{port}` in the command is its port."""
        return serving(self.folder, self.environment, *command)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A process in examples/ that exits by itself."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            cwd=EXAMPLES,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def rows(self) -> list[dict[str, Any]]:
        """The row of each event in Redis, as a worker would write it, in the order they were tracked."""
        lines = sorted(events_in(self.redis, Keys("rq", "birdfeed"), None), key=lambda line: str(line["occurred_at"]))
        for line in lines:
            assert "birds" not in str(line), "a prompt or an answer is in an event"
        return [priced(captured(line)) for line in lines]


def captured(line: dict[str, Any]) -> CapturedEvent:
    """An event in the queue, as the program's own test would see it."""
    kind = "image_generation" if "image_size" in line["data"] else "text_generation"
    return CapturedEvent(
        event_id=line["event_id"],
        event_type=kind,
        occurred_at=datetime.fromisoformat(line["occurred_at"]),
        data=line["data"],
    )


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The provider's address."""
    with provider_running(tmp_path_factory.mktemp("provider")) as url:
        yield url


@pytest.fixture
def place(provider: str, valkey_url: str, redis: Redis, tmp_path: Path) -> Place:
    return Place(provider, redis, valkey_url, tmp_path)


@pytest.fixture
def since(provider: str) -> Callable[[], Counter[tuple[str, int, int, int]]]:
    """The provider's counts since the test began: model, input tokens, cached tokens among them, output tokens."""
    before = len(httpx.get(f"{provider}/counted").json())

    def told() -> Counter[tuple[str, int, int, int]]:
        new = httpx.get(f"{provider}/counted").json()[before:]
        return Counter((one["model"], one["prompt"], one["cached"], one["completion"]) for one in new)

    return told


def counted(rows: list[dict[str, Any]]) -> Counter[tuple[str, int, int, int]]:
    """The same, from the rows that have a usage."""

    def total(row: dict[str, Any], side: str) -> int:
        return sum(count for name, count in row.items() if name.startswith(side) and name.endswith("_tokens"))

    return Counter(
        (row["model"], total(row, "prompt_"), row["prompt_cached_tokens"], total(row, "completion_"))
        for row in rows
        if row["usage_status"] != "missing"
    )


def told(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[column] for column in columns) for row in rows]


def test_fastapi_with_openai(place: Place, since: Any) -> None:
    """Two lines of set-up and none where the model is called: whole answers, streams, and a prompt that is refused."""
    with place.serving("uvicorn", "text_service:app", "--port", "{port}") as client:
        assert client.post("/answer", json={"prompt": PROMPT, "user": "ada"}).json() == {"text": PROMPT.upper()}
        assert client.post("/stream", json={"prompt": PROMPT, "user": "bob"}).text.split() == PROMPT.upper().split()
        assert client.post("/answer", json={"prompt": "fail"}).status_code == 422
    rows = place.rows()

    assert counted(rows) == since() == {("gpt-4o-mini", 7, 3, 7): 2}
    assert told(rows, "user", "stream", "response_status", "cost_status", "provider") == [
        ("ada", False, "success", "priced", "openai"),
        ("bob", True, "success", "priced", "openai"),
        ("nobody", False, "error", "no_usage", "openai"),
    ]
    assert told(rows[2:], "error_type", "error_code") == [("BadRequestError", "invalid_prompt")]
    assert (EXAMPLES / "text_service.py").read_text().count("birdfeed_lifespan()") == 1
    assert (EXAMPLES / "text_service.py").read_text().count("instrument(") == 1


def test_fastapi_with_a_decorator(place: Place, since: Any) -> None:
    """Images, and a client of an SDK that is not instrumented."""
    with place.serving("uvicorn", "image_service:app", "--port", "{port}") as client:
        assert client.post("/images", json={"prompt": PROMPT, "user": "ada"}).status_code == 200
        assert client.post("/images", json={"prompt": "fail"}).status_code == 422
    rows = place.rows()

    assert counted(rows) == since() == {("gpt-image-1", 7, 0, 1_056): 1}
    assert told(rows, "user", "response_status", "num_images", "width", "quality") == [
        ("ada", "success", 1, 1024, "medium"),
        ("unknown", "error", 0, 1024, "medium"),
    ]


def test_flask_with_anthropic(place: Place, since: Any) -> None:
    """Context by the extension, streams, refusals, and a cached answer."""
    headers = {"x-user": "ada", "x-tier": "gold"}
    with place.serving(*GUNICORN, "flask_service:app") as client:
        for _ in range(2):
            given = client.post("/answer", json={"prompt": PROMPT}, headers=headers)
            assert given.json() == {"text": PROMPT.upper()}
        assert client.post("/stream", json={"prompt": PROMPT}).text.split() == PROMPT.upper().split()
        assert client.post("/answer", json={"prompt": "fail"}).status_code == 422
    rows = place.rows()

    assert counted(rows) == since() == {("claude-haiku-4-5", 7, 3, 7): 2}
    assert told(rows, "user", "tier", "stream", "response_status", "cost_status") == [
        ("ada", "gold", False, "success", "priced"),
        ("ada", "gold", False, "success", "cache_hit"),
        ("unknown", "anonymous", True, "success", "priced"),
        ("unknown", "anonymous", False, "error", "no_usage"),
    ]


def test_django_with_google(place: Place, since: Any) -> None:
    """Context by the middleware, the setting of a process, streams and refusals."""
    with place.serving(*GUNICORN, "django_service:application") as client:
        headers = {"x-user": "ada", "x-request-id": "r1"}
        assert client.post("/answer", json={"prompt": PROMPT}, headers=headers).json() == {"text": PROMPT.upper()}
        assert client.post("/stream", json={"prompt": PROMPT}).text.split() == PROMPT.upper().split()
        assert client.post("/answer", json={"prompt": "fail"}).status_code == 422
    rows = place.rows()

    assert counted(rows) == since() == {("gemini-2.5-flash", 7, 3, 7): 2}
    assert told(rows, "user", "request_id", "environment", "stream", "response_status") == [
        ("ada", "r1", "examples", False, "success"),
        ("unknown", "", "examples", True, "success"),
        ("unknown", "", "examples", False, "error"),
    ]


def test_celery_with_litellm(place: Place, since: Any) -> None:
    """A task's id is its events' request_id."""
    with (
        place.running("celery", "--app", "celery_tasks", "worker", "--concurrency", "1", "--loglevel", "WARNING"),
        Celery(broker=place.environment["CELERY_BROKER_URL"]) as app,
    ):
        ids = [app.send_task("celery_tasks.summarise", (text, "ada")).id for text in (PROMPT, "fail")]
        eventually(lambda: len(place.rows()) == 2, what="two events", within=300)
    rows = place.rows()

    assert counted(rows) == since() == {("gpt-4o-mini", 7, 3, 7): 1}
    assert told(rows, "user", "response_status", "provider", "request_id") == [
        ("ada", "success", "openai", ids[0]),
        ("ada", "error", "openai", ids[1]),
    ]


def test_rq_with_openai(place: Place, since: Any) -> None:
    """A job that is run again gives the same event."""
    url = place.redis_url.removesuffix("/0") + "/6"
    worker = ("--worker-class", "birdfeed.integrations.rq.BirdfeedWorker", "--burst", "summaries")
    with Redis.from_url(url) as redis:
        redis.flushdb()
        queue = Queue("summaries", connection=redis)
        job = Job.create("rq_jobs.summarise", (PROMPT, "ada"), connection=redis)
        for _ in range(2):
            queue.enqueue_job(job)
            done = place.run("-m", "rq.cli", "worker", "--url", url, *worker)
            assert done.returncode == 0, done.stderr
    rows = place.rows()

    assert counted(rows) == since() == {("gpt-4o-mini", 7, 3, 7): 2}
    assert told(rows, "user", "request_id", "event_id") == [("ada", job.id, rows[0]["event_id"])] * 2


def test_a_lambda_with_openai(place: Place, since: Any) -> None:
    """The events are in Redis when the handler returns: the process is killed then."""
    script = (
        "import os, signal, types, lambda_function\n"
        f"asked = {{'prompt': {PROMPT!r}, 'user': 'ada'}}\n"
        "given = lambda_function.handler(asked, types.SimpleNamespace(aws_request_id='a-1'))\n"
        "print(given['body'], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = place.run("-c", script)
    rows = place.rows()

    assert (done.returncode, done.stdout.strip()) == (-signal.SIGKILL, PROMPT.upper()), done.stderr
    assert counted(rows) == since() == {("gpt-4o-mini", 7, 3, 7): 1}
    assert told(rows, "user", "request_id", "response_status") == [("ada", "a-1", "success")]
