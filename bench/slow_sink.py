"""How a pool keeps up with a slow store: small jobs of many producers, and a sink with a delay.

    python -m bench.slow_sink [--events 100000]

20 producers' jobs of 1 to 20 events wait in the queue; for each sink delay and number of processes: events a second,
and requests a second (Tinybird allows 100 for each data source).
"""

import argparse
import os
import random
import subprocess
import sys
import time

from birdfeed.encoding.batch import pack
from birdfeed.transport.enqueuer import Enqueuer
from birdfeed_worker.monitoring.depth import depth
from redis import Redis

from bench.delivery_parts import KEYS, lines, redis, sink


def fill_small(connection: Redis, events: int) -> int:
    """Enqueue jobs of 1 to 20 events; returns the number of jobs."""
    draw = random.Random(1)
    enqueuer = Enqueuer(connection, KEYS)
    pool, left, jobs = lines(10_000), events, 0
    while left > 0:
        batches = []
        for _ in range(100):
            size = min(left, draw.randint(1, 20))
            if size:
                start = draw.randrange(9_900)
                batches.append(pack("text_generation", pool[start : start + size], compression=1))
                left -= size
        enqueuer.enqueue(batches)
        jobs += len(batches)
    return jobs


def drain(connection: Redis, processes: int) -> float:
    """The seconds from the pool's first reserved job to an empty queue."""
    pool = subprocess.Popen(
        [sys.executable, "-m", "birdfeed_worker"],
        env={**os.environ, "BIRDFEED_PROCESSES": str(processes), "BIRDFEED_LOG_LEVEL": "error"},
    )
    try:
        while depth(connection, KEYS).started == 0:
            time.sleep(0.005)
        started = time.perf_counter()
        while depth(connection, KEYS).total:
            time.sleep(0.02)
        return time.perf_counter() - started
    finally:
        pool.terminate()
        pool.wait()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--delays", type=float, nargs="*", default=[0.05, 1.0, 3.0])
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 4])
    options = parser.parse_args()
    print(f"{'sink':>6}{'processes':>11}{'jobs':>8}{'events/s':>11}{'requests/s':>12}{'rows/request':>14}")
    with redis() as connection:
        for delay in options.delays:
            for processes in options.processes:
                with sink(delay) as seen:
                    jobs = fill_small(connection, options.events)
                    took = drain(connection, processes)
                    requests, rows = seen[0], seen[1]
                assert rows == options.events, f"{rows} rows of {options.events}"
                print(
                    f"{delay:>5g}s{processes:>11}{jobs:>8}{options.events / took:>11,.0f}"
                    f"{requests / took:>12.1f}{rows / requests:>14,.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
