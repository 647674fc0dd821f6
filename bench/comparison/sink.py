"""A small HTTP endpoint for all peers: it accepts each peer's format, counts distinct events, and fails on demand."""

import gzip
import json
import re
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import zstandard

#: The text that identifies an event in every peer's format.
_EVENT: Final = re.compile(rb"ev\d{6}")
_EVENT_ID: Final = re.compile(rb'"event_id":"([0-9a-f-]{36})"')
_COLUMNS: Final = [{"name": "event_id", "type": "String"}, {"name": "occurred_at", "type": "DateTime64(3)"}]


@dataclass
class Sink:
    """The endpoint's behaviour and state.

    Args:
        delay: Seconds that each answer takes.
        away: Seconds from the program's start in which it answers 503.
        lost: Seconds from the program's start in which it takes the rows but closes the connection without an answer.
        bad: Whether it refuses (400) a request that contains the bad row.
    """

    delay: float = 0.0
    away: float = 0.0
    lost: float = 0.0
    bad: bool = False
    rows: Counter[bytes] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    requests: int = 0
    _began: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Record that the program starts to track; times in seconds count from the first program's start."""
        if self._began is None:
            self._began = time.monotonic()

    def answer(self, body: bytes) -> tuple[int, bytes] | None:
        """Status and body for a request; None for no answer at all."""
        passed = time.monotonic() - self._began if self._began is not None else 0.0
        with self._lock:
            self.requests += 1
            if passed < self.away:
                return 503, b'{"error": "away"}'
            if self.bad and b"bad-row" in body:
                return 400, b'{"error": "a row is not valid"}'
            self.rows.update(set(_EVENT.findall(body)))
            self.ids.update(one.decode() for one in _EVENT_ID.findall(body))
        if passed < self.lost:
            return None
        return 200, b'{"successful_rows": %d, "quarantined_rows": 0}' % max(1, body.rstrip().count(b"\n") + 1)

    def query(self, sql: str) -> bytes:
        """Which of the requested event ids it has; nothing is in quarantine."""
        if "LIMIT 0" in sql:
            return json.dumps({"meta": _COLUMNS, "data": []}).encode()
        with self._lock:
            found = [] if "_quarantine" in sql else [{"event_id": one} for one in self.ids if one[-12:] in sql]
        return json.dumps({"meta": _COLUMNS[:1], "data": found}).encode()

    @property
    def twice(self) -> int:
        """The number of duplicate rows."""
        return self.rows.total() - len(self.rows)


def decoded(body: bytes, encoding: str) -> bytes:
    """A body without its compression."""
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    return zstandard.ZstdDecompressor().decompressobj().decompress(body) if encoding == "zstd" else body


@contextmanager
def serving(sink: Sink) -> Iterator[str]:
    """The sink's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Headers and body are sent as one packet; the second of two would wait 40 ms for an acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = decoded(raw, self.headers.get("Content-Encoding", ""))
            if self.path == "/begin":
                sink.begin()
                self.reply(200, b"{}")
            elif self.path.startswith("/v0/sql"):
                self.reply(200, sink.query(body.decode()))
            else:
                time.sleep(sink.delay)
                answer = sink.answer(body)
                if answer is None:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.reply(*answer)

        def do_GET(self) -> None:
            self.reply(404, b"{}")

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore errors: clients are killed while they wait."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
