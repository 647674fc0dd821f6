"""Health: /metrics, /healthz and /readyz, served by the launcher from threads beside its loop."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.monitoring.metrics import read_pool
from birdfeed_worker.monitoring.prometheus import expose, of_pool, of_queue

log = logging.getLogger(__name__)

#: Seconds without a turn of the launcher's loop after which it counts as hanging; it waits for a Redis
#: that is away when it gives jobs back.
HANGING_SECONDS: Final = 120.0
#: Seconds a page of metrics is kept: several who scrape cost one look at Redis.
KEEP_SECONDS: Final = 2.0
PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Pulse:
    """What the launcher says of itself, written by its loop and read by the server's threads."""

    name: str
    workers: int = 0
    ends: int = 0
    stopping: bool = False
    last_turn: float = field(default_factory=time.monotonic)

    def turn(self, workers: int) -> None:
        """The loop has turned; so many workers are alive."""
        self.workers = workers
        self.last_turn = time.monotonic()


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    content_type: str
    body: bytes


class Pages:
    """What is served.

    Args:
        pulse: The launcher's.
        connection: Redis, for these pages alone: quick to give up.
        keys: Names of the keys.
    """

    def __init__(self, pulse: Pulse, connection: Redis, keys: Keys) -> None:
        self._pulse = pulse
        self._connection = connection
        self._keys = keys
        self._lock = threading.Lock()
        self._kept: tuple[float, bytes] = (float("-inf"), b"")

    def page(self, path: str) -> Page:
        """The page at a path."""
        pages: dict[str, Callable[[], Page]] = {
            "/metrics": self.metrics,
            "/healthz": self.health,
            "/readyz": self.ready,
        }
        made = pages.get(path.partition("?")[0])
        if made is None:
            return _json(404, {"error": "there are /metrics, /healthz and /readyz"})
        return made()

    def metrics(self) -> Page:
        """For Prometheus; without Redis, what the launcher knows itself."""
        with self._lock:
            made_at, text = self._kept
            if time.monotonic() - made_at > KEEP_SECONDS:
                text = self._metrics()
                self._kept = (time.monotonic(), text)
        return Page(200, PROMETHEUS_TEXT, text)

    def _metrics(self) -> bytes:
        pulse = self._pulse
        try:
            counts = read_pool(self._connection, self._keys, pulse.name)
            queue = list(of_queue(self._connection, self._keys))
        except RedisError as error:
            log.warning("metrics without Redis: %s", type(error).__name__)
            counts, queue = {}, []
        return expose(of_pool(counts, workers=pulse.workers, ends=pulse.ends), queue)

    def health(self) -> Page:
        """Whether the launcher's loop turns."""
        silent = time.monotonic() - self._pulse.last_turn
        return _json(200 if silent < HANGING_SECONDS else 503, {"seconds_since_turn": round(silent, 1)})

    def ready(self) -> Page:
        """Whether work gets done here."""
        problems = []
        if self._pulse.stopping:
            problems.append("stopping")
        if self._pulse.workers == 0:
            problems.append("no worker is alive")
        try:
            self._connection.ping()
        except RedisError as error:
            problems.append(f"Redis doesn't answer: {type(error).__name__}")
        return _json(503 if problems else 200, {"ready": not problems, "problems": problems})


def _json(status: int, value: dict[str, Any]) -> Page:
    return Page(status, "application/json", orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))


def serve(pages: Pages, host: str, port: int) -> ThreadingHTTPServer | None:
    """Serve from now on; None, with a line in the log, where the port is taken: work goes on without it."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            try:
                page = pages.page(self.path)
            except Exception:
                log.exception("a page failed")
                page = _json(500, {"error": "the log says why"})
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

        def log_message(self, *args: Any) -> None:
            """Nothing: probes come every few seconds."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        log.warning("no metrics: can't listen on %s:%d (%s); set BIRDFEED_METRICS_PORT", host, port, error.strerror)
        return None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="birdfeed-health", daemon=True).start()
    log.info("metrics and health on http://%s:%d", host, server.server_port)
    return server
