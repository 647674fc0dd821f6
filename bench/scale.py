"""What 1 k to 1 M events per second need: hosts, Redis, Tinybird. Redis's share is measured, with simulated workers.

    python -m bench.scale [--jobs 400]

First: jobs as the real producer makes them go through a real Valkey with an append-only file. The workers' own scripts
reserve, mark and settle them, but no rows are made, so that only Redis's work remains. Its CPU time (system and user,
in INFO's used_cpu) is the figure that scales, because it runs scripts on one core. Then it computes what that means for
each rate. See docs/explanation/scale.md.
"""

import argparse
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from birdfeed_worker.model import Written
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis

from bench.delivery_parts import KEYS, fill, redis

#: Events in a job: in a full batch (by bytes), and in batches of a busy and of a quiet handler (by the flush interval).
PER_JOB = (454, 50, 5)
RATES = (1_000, 10_000, 100_000, 1_000_000)
#: Jobs that a worker reserves at a time.
RESERVED = 20
#: Events per second of one worker's core and of one handler's process: half of docs/explanation/performance.md's.
WORKER_EVENTS = 19_000
HANDLER_EVENTS = 2_000
#: Bytes of a row in a request, and Tinybird's limits for a data source as in the settings.
ROW_BYTES = 1_300
TINYBIRD_BYTES = 20_000_000
#: Rows in a full request (10 MB).
REQUEST_ROWS = 10_000_000 // ROW_BYTES
#: The share of a core that Redis may use: with more, a burst or a rewrite of its file would delay all clients.
REDIS_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one job costs Redis: µs of CPU, commands, bytes in memory while it waits, and bytes in the file."""

    micros: float
    commands: float
    memory: float
    log: float


def cpu(connection: Redis) -> float:
    """Seconds of CPU that Redis has used."""
    info = connection.info("cpu")
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])


def measure(connection: Redis, per_job: int, jobs: int) -> Cost:
    """Process jobs in Redis, from enqueueing to settling."""
    connection.flushall()
    before, memory = connection.info(), int(connection.info("memory")["used_memory_dataset"])
    began = cpu(connection)
    fill(connection, per_job * jobs, per_job)
    waiting = int(connection.info("memory")["used_memory_dataset"]) - memory
    reserver, settler = Reserver(connection, KEYS, "bench", 20), Settler(connection, KEYS, "bench")
    settled = 0
    while reserved := reserver.reserve(jobs=RESERVED, events=per_job * RESERVED, size=10**9):
        decoded = decode(reserved)
        settler.mark(reserved[0].execution, [job.id for job in reserved])
        for item in decoded.items:
            item.outcome = Written()
        settler.settle(reserved, decoded, datetime.now(UTC))
        settled += len(reserved)
    assert settled == jobs, (settled, jobs)
    after = connection.info()
    return Cost(
        micros=(cpu(connection) - began) / jobs * 1e6,
        commands=(after["total_commands_processed"] - before["total_commands_processed"]) / jobs,
        memory=waiting / jobs,
        log=(after["aof_current_size"] - before["aof_current_size"]) / jobs,
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=400)
    options = parser.parse_args()
    print(
        f"{'events/job':>10}{'Redis µs/job':>14}{'µs/event':>10}{'commands/job':>14}{'B waiting/event':>17}"
        f"{'AOF B/event':>13}"
    )
    costs = {}
    with redis() as connection:
        fill(connection, 100, 10)  # warm up: scripts, connections
        for per_job in PER_JOB:
            cost = costs[per_job] = measure(connection, per_job, options.jobs)
            print(
                f"{per_job:>10}{cost.micros:>14.0f}{cost.micros / per_job:>10.2f}{cost.commands:>14.1f}"
                f"{cost.memory / per_job:>17.0f}{cost.log / per_job:>13.0f}",
                flush=True,
            )
    print(f"\n{os.cpu_count()} cores here. One Redis, at {REDIS_SHARE:.0%} of a core:")
    for per_job, cost in costs.items():
        print(f"  jobs of {per_job:>3}: {REDIS_SHARE * 1e6 / cost.micros * per_job:>11,.0f} events/s")
    print(
        f"\n{'events/s':>10}{'events/job':>11}{'handlers':>10}{'workers':>9}{'Redis':>7}{'cores of it':>12}"
        f"{'commands/s':>12}{'GB/hour of outage':>19}{'requests/s':>12}{'x Tinybird limit':>18}"
    )
    for rate in RATES:
        for per_job, cost in costs.items():
            busy = rate / per_job * cost.micros / 1e6
            print(
                f"{rate:>10,}{per_job:>11}{ceil(rate / HANDLER_EVENTS):>10,}{ceil(rate / WORKER_EVENTS):>9}"
                f"{ceil(busy / REDIS_SHARE):>7}{busy:>12.2f}{rate / per_job * cost.commands:>12,.0f}"
                f"{rate / per_job * cost.memory * 3600 / 1e9:>19.1f}"
                f"{max(1, rate / REQUEST_ROWS):>12.1f}{rate * ROW_BYTES / TINYBIRD_BYTES:>18.2f}"
            )


if __name__ == "__main__":
    main()
