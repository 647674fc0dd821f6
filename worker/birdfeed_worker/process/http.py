"""Health: /metrics, /healthz and /readyz, served by the launcher from threads beside its loop."""

import logging
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.flow.refusals import by_host
from birdfeed_worker.monitoring.facts import Status
from birdfeed_worker.monitoring.metrics import read_pool
from birdfeed_worker.monitoring.prometheus import expose, of_pool, of_status
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.queue.kinds import WrongKindError
from birdfeed_worker.queue.redis_time import redis_time

log = logging.getLogger(__name__)

#: Seconds without a turn of the launcher's loop after which it counts as hanging; it waits for a Redis
#: that is away when it gives jobs back.
HANGING_SECONDS: Final = 120.0
#: Seconds a look at Redis is good for.
KEEP_SECONDS: Final = 2.0
#: Seconds between tries for a port that another has.
PORT_SECONDS: Final = 2.0
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
        self._kept: tuple[float, Status | None] = (float("-inf"), None)

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
        pulse = self._pulse
        try:
            counts = read_pool(self._connection, self._keys, pulse.name)
            queue = list(of_status(self._status()))
        except RedisError as error:
            log.warning("metrics without Redis: %s", type(error).__name__)
            counts, queue = {}, []
        return Page(200, PROMETHEUS_TEXT, expose(of_pool(counts, workers=pulse.workers, ends=pulse.ends), queue))

    def _status(self) -> Status:
        """The state of everything, as it was at most KEEP_SECONDS ago: several who ask cost one look at Redis."""
        with self._lock:
            made_at, status = self._kept
            if status is None or time.monotonic() - made_at > KEEP_SECONDS:
                status = read_status(self._connection, self._keys, redis_time(self._connection))
                self._kept = (time.monotonic(), status)
            return status

    def health(self) -> Page:
        """Whether the launcher's loop turns."""
        silent = time.monotonic() - self._pulse.last_turn
        return _json(200 if silent < HANGING_SECONDS else 503, {"seconds_since_turn": round(silent, 1)})

    def ready(self) -> Page:
        """Whether work gets done here."""
        problems, found = [], list[dict[str, str]]()
        if self._pulse.stopping:
            problems.append("stopping")
        if self._pulse.workers == 0:
            problems.append("no worker is alive")
        try:
            status = self._status()
        except RedisError as error:
            wrong = isinstance(error, WrongKindError)
            problems.append(str(error) if wrong else f"Redis doesn't answer: {type(error).__name__}")
        else:
            problems += [finding.message for finding in status.findings if finding.rule.blocks]
            problems += [
                f"{datasource} refuses this host's token: {workers[0].reason}"
                for (datasource, host), workers in by_host(status.refusals).items()
                if host == socket.gethostname()
            ]
            found = [{"rule": finding.rule.name, "problem": finding.message} for finding in status.findings]
        return _json(503 if problems else 200, {"ready": not problems, "problems": problems, "found": found})


def _json(status: int, value: dict[str, Any]) -> Page:
    return Page(status, "application/json", orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))


class Server:
    """Serves pages from a thread, as soon as the port is free.

    It may not be yet where a new launcher is started before the old one has stopped: work goes on meanwhile.
    """

    def __init__(self, pages: Pages, host: str, port: int) -> None:
        self._pages = pages
        self._address = (host, port)
        self._closed = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self._thread = threading.Thread(target=self._run, name="birdfeed-health", daemon=True)

    def start(self) -> Self:
        """From now on."""
        if not self._bind():
            host, port = self._address
            log.warning(
                "no metrics while %s:%d is taken (BIRDFEED_METRICS_PORT); tried again until it is free", host, port
            )
        self._thread.start()
        return self

    @property
    def port(self) -> int | None:
        """The port it listens on; None while it doesn't."""
        return None if self._server is None else self._server.server_port

    def close(self) -> None:
        """No more."""
        self._closed.set()
        if self._server is not None:
            self._server.shutdown()
        self._thread.join()

    def _run(self) -> None:
        while self._server is None:
            if self._closed.wait(PORT_SECONDS):
                return
            self._bind()
        with self._server:
            self._server.serve_forever()

    def _bind(self) -> bool:
        try:
            server = ThreadingHTTPServer(self._address, handler_of(self._pages))
        except OSError as error:
            log.debug("can't listen on %s:%d: %s", *self._address, error.strerror)
            return False
        server.daemon_threads = True
        self._server = server
        log.info("metrics and health on http://%s:%d", self._address[0], server.server_port)
        return True


def handler_of(pages: Pages) -> type[BaseHTTPRequestHandler]:
    """What http.server makes for each connection."""

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

    return Handler
