"""/metrics, /healthz and /readyz, which the launcher serves from threads besides its loop."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Protocol, Self, TypeAlias

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.flow.refusals import by_host
from birdfeed_worker.monitoring.facts import Status
from birdfeed_worker.monitoring.metrics import read_pool
from birdfeed_worker.monitoring.prometheus import expose, of_pool, of_reading, of_status
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.queue.kinds import WrongKindError, named
from birdfeed_worker.queue.redis_time import redis_time

log = logging.getLogger(__name__)

#: Seconds without an iteration of the launcher's loop after which it counts as hanging. (When it gives jobs back, it
#: waits for a Redis that is away.)
HANGING_SECONDS: Final = 120.0
#: Seconds for which what was read from Redis is used.
KEEP_SECONDS: Final = 2.0
#: Seconds that a page waits for a new reading; then it shows the last one.
LOOK_SECONDS: Final = 3.0
#: Seconds between tries to get a port that another process has.
PORT_SECONDS: Final = 2.0
#: The paths of the pages.
PATHS: Final = ("/metrics", "/healthz", "/readyz")
PROMETHEUS_TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Pulse:
    """The launcher's state, written by its loop and read by the server's threads."""

    name: str
    workers: int = 0
    ends: int = 0
    stopping: bool = False
    last_turn: float = field(default_factory=time.monotonic)

    def turn(self, workers: int) -> None:
        """Record an iteration of the loop, and the number of live workers."""
        self.workers = workers
        self.last_turn = time.monotonic()


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP response."""

    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was read from Redis: the status, the pool's counts, when (monotonic, s), and how long it took (s)."""

    status: Status
    counts: Mapping[tuple[str, ...], float]
    at: float
    seconds: float


class Looker:
    """Reads Redis for all requests, in its own thread, so that a Redis that hangs delays none of them for long."""

    def __init__(self, connection: Redis, keys: Keys, pool: str) -> None:
        self._connection = connection
        self._keys = keys
        self._pool = pool
        self._lock = threading.Lock()
        self._looking: threading.Thread | None = None
        self._seen: Seen | None = None
        self._error: Exception | None = None

    def look(self) -> tuple[Seen | None, str]:
        """What was last read, and why that isn't current ("" if it is)."""
        with self._lock:
            seen = self._seen
            if seen is not None and time.monotonic() - seen.at <= KEEP_SECONDS:
                return seen, ""
            if self._looking is None or not self._looking.is_alive():
                self._looking = threading.Thread(target=self._look, name="birdfeed-look", daemon=True)
                self._looking.start()
            looking = self._looking
        looking.join(LOOK_SECONDS)
        if looking.is_alive():
            return self._seen, f"Redis doesn't answer: it took more than {LOOK_SECONDS:g} s"
        error = self._error
        if error is None or isinstance(error, WrongKindError):
            return self._seen, str(error or "")
        if not isinstance(error, RedisError):
            raise error
        return self._seen, f"Redis doesn't answer: {type(error).__name__}"

    def _look(self) -> None:
        began = time.monotonic()
        try:
            counts = read_pool(self._connection, self._keys, self._pool)
            status = read_status(self._connection, self._keys, redis_time(self._connection))
        except Exception as error:  # passed on to the request
            self._error = named(self._connection, self._keys, error) if isinstance(error, RedisError) else error
            return
        now = time.monotonic()
        self._seen, self._error = Seen(status=status, counts=counts, at=now, seconds=now - began), None


class Pages:
    """The pages that are served.

    Args:
        connection: Redis, only for these pages: it gives up quickly.
    """

    def __init__(self, pulse: Pulse, connection: Redis, keys: Keys) -> None:
        self._pulse = pulse
        self._looker = Looker(connection, keys, pulse.name)

    def page(self, path: str) -> Page:
        """The page at a path; never raises: what fails is logged and answered with 500."""
        pages: dict[str, Callable[[], Page]] = dict(zip(PATHS, (self.metrics, self.health, self.ready), strict=True))
        made = pages.get(path.partition("?")[0])
        if made is None:
            return _json(404, {"error": f"there are {', '.join(PATHS)}"})
        try:
            return made()
        except Exception:
            log.exception("a page failed")
            return _json(500, {"error": "the log says why"})

    def metrics(self) -> Page:
        """The metrics for Prometheus; if Redis doesn't answer in time, as last read, with their age."""
        pulse = self._pulse
        seen, problem = self._looker.look()
        if problem:
            log.warning("metrics as last read: %s", problem)
        counts = {} if seen is None else seen.counts
        age = None if seen is None else time.monotonic() - seen.at
        seconds = None if seen is None else seen.seconds
        parts = [
            of_pool(counts, workers=pulse.workers, ends=pulse.ends),
            of_reading(up=not problem, seconds=seconds, age=age),
        ]
        if seen is not None:
            parts.append(of_status(seen.status))
        return Page(200, PROMETHEUS_TEXT, expose(*parts))

    def health(self) -> Page:
        """Whether the launcher's loop runs."""
        silent = time.monotonic() - self._pulse.last_turn
        return _json(200 if silent < HANGING_SECONDS else 503, {"seconds_since_turn": round(silent, 1)})

    def ready(self) -> Page:
        """Whether this pool can process jobs."""
        problems, found = [], list[dict[str, str]]()
        if self._pulse.stopping:
            problems.append("stopping")
        if self._pulse.workers == 0:
            problems.append("no worker is alive")
        seen, problem = self._looker.look()
        if problem:
            problems.append(problem)
        elif seen is not None:
            status = seen.status
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


class Front(Protocol):
    """Listens on a port and answers until another thread calls `shutdown`, as http.server's servers do."""

    server_port: int

    def serve_forever(self) -> None:
        """Answer until `shutdown`."""

    def shutdown(self) -> None:
        """Stop answering."""

    def server_close(self) -> None:
        """Release the port."""


#: Listens on a host and port and answers with these pages; raises OSError if it can't listen.
Listen: TypeAlias = Callable[[Pages, str, int], Front]


def listen(pages: Pages, host: str, port: int) -> Front:
    """Serve these pages and no others."""
    server = ThreadingHTTPServer((host, port), handler_of(pages))
    server.daemon_threads = True
    return server


class Server:
    """Serves pages from a thread, as soon as the port is free.

    It may not be free yet if a new launcher is started before the old one has stopped; the work starts anyway.
    """

    def __init__(self, pages: Pages, host: str, port: int, listen: Listen = listen) -> None:
        self._pages = pages
        self._address = (host, port)
        self._listen = listen
        self._closed = threading.Event()
        self._server: Front | None = None
        self._thread = threading.Thread(target=self._run, name="birdfeed-health", daemon=True)

    def start(self) -> Self:
        """Start serving."""
        if not self._bind():
            host, port = self._address
            log.warning(
                "no metrics: %s:%d is in use (BIRDFEED_METRICS_PORT); trying again until it is free", host, port
            )
        self._thread.start()
        return self

    @property
    def port(self) -> int | None:
        """The port it listens on; None while it doesn't."""
        return None if self._server is None else self._server.server_port

    def close(self) -> None:
        """Stop serving."""
        self._closed.set()
        if self._server is not None:
            self._server.shutdown()
        self._thread.join()

    def _run(self) -> None:
        while self._server is None:
            if self._closed.wait(PORT_SECONDS):
                return
            self._bind()
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()

    def _bind(self) -> bool:
        try:
            server = self._listen(self._pages, *self._address)
        except OSError as error:
            log.debug("can't listen on %s:%d: %s", *self._address, error.strerror)
            return False
        self._server = server
        log.info("metrics and health on http://%s:%d", self._address[0], server.server_port)
        return True


def handler_of(pages: Pages) -> type[BaseHTTPRequestHandler]:
    """The class of which http.server makes an instance for each connection."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            page = pages.page(self.path)
            self.send_response(page.status)
            self.send_header("Content-Type", page.content_type)
            self.send_header("Content-Length", str(len(page.body)))
            self.end_headers()
            self.wfile.write(page.body)

        do_HEAD = do_GET  # noqa: N815 - http.server calls it by this name

        def log_message(self, *args: Any) -> None:
            """Log nothing: probes come every few seconds."""

    return Handler
