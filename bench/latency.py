"""How long an event takes from track_event to the store on an idle system.

    python -m bench.latency [--events 60] [--processes 2]

It sends one event at a time, at random times, through a real pool to a sink that answers immediately. The time beyond
the flush interval is birdfeed's own (the target is 50 ms).
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

import birdfeed
import orjson
from birdfeed.settings import ProducerSettings

from bench.delivery_parts import Sink, redis


class ArrivalsSink(Sink):
    """Records when each event arrived."""

    arrived: dict[str, float] = {}  # noqa: RUF012 - one sink in this program
    news = threading.Condition()

    def took(self, ndjson: bytes, rows: int) -> None:
        """Record the arrivals."""
        with self.news:
            self.arrived.update((orjson.loads(line)["request_id"], time.perf_counter()) for line in ndjson.splitlines())
            self.news.notify_all()


@contextmanager
def sink() -> Iterator[None]:
    """The sink in a thread, set in the environment."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), ArrivalsSink)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["TINYBIRD_HOST"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["TINYBIRD_TOKEN"] = "bench"
    yield
    server.shutdown()


@contextmanager
def pool(processes: int) -> Iterator[None]:
    """Real workers."""
    workers = subprocess.Popen(
        [sys.executable, "-m", "birdfeed_worker"],
        env={**os.environ, "BIRDFEED_PROCESSES": str(processes), "BIRDFEED_LOG_LEVEL": "error"},
    )
    try:
        yield
    finally:
        workers.terminate()
        workers.wait()


def one(name: str) -> float:
    """Seconds from track_event to the store."""
    began = time.perf_counter()
    birdfeed.track_event("text_generation", {"model": "openai", "request_id": name, "usage": {"prompt_tokens": 9}})
    with ArrivalsSink.news:
        if not ArrivalsSink.news.wait_for(lambda: name in ArrivalsSink.arrived, timeout=60):
            raise TimeoutError(f"{name} did not arrive within a minute")
    return ArrivalsSink.arrived[name] - began


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    draw = random.Random(1)
    with redis(), sink(), pool(options.processes):
        birdfeed.start()
        interval = ProducerSettings().flush_interval
        one("warm-up")
        took = []
        for number in range(options.events):
            time.sleep(draw.uniform(0.3, 0.7))
            took.append(one(f"event-{number}"))
        birdfeed.close()
    took.sort()
    print(f"track_event to the store, idle; flush interval {interval * 1000:.0f} ms; {options.events} events")
    for label, seconds in (
        ("median", statistics.median(took)),
        ("p95", took[int(len(took) * 0.95)]),
        ("worst", took[-1]),
    ):
        print(f"{label:<8}{seconds * 1000:>8.0f} ms{(seconds - interval) * 1000:>8.0f} ms above the interval")


if __name__ == "__main__":
    main()
