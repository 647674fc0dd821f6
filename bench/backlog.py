"""Whether the cost stays linear: one worker with 10 k, 100 k and 1 M queued events.

    python -m bench.backlog [--sizes 10000 100000 1000000]

For each it prints events per second, the worker's peak memory, and Redis's bytes per queued event.
"""

import argparse
import multiprocessing
import resource
from typing import Any

from redis import Redis

from bench.delivery_parts import fill, one_worker, redis, sink

PER_JOB = 500


def measure(pipe: Any) -> None:
    """Run one measurement in a separate process, so that its peak memory can be read."""
    took = one_worker()
    pipe.send((took.wall, took.cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def memory(connection: Redis) -> int:
    """Bytes Redis uses for data."""
    return int(connection.info("memory")["used_memory_dataset"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(f"{'queued':>10}{'events/s':>11}{'CPU µs/event':>14}{'worker MB':>11}{'Redis B/event':>15}")
    with sink(), redis() as connection:
        for size in options.sizes:
            before = memory(connection)
            fill(connection, size, PER_JOB)
            queued = memory(connection) - before
            ours, theirs = context.Pipe()
            process = context.Process(target=measure, args=(theirs,))
            process.start()
            wall, cpu, peak = ours.recv()
            process.join()
            print(
                f"{size:>10,}{size / wall:>11,.0f}{cpu / size * 1e6:>14.1f}{peak / 1024:>11.0f}{queued / size:>15.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
