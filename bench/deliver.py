"""How many events per second one worker process delivers to a store that answers immediately; ratios of one run.

    python -m bench.deliver [--events 40000] [--rounds 3]

Four ways over the same events and the same work (validate, normalise, price, tier, row, compress, POST): one rq job
per event on rq's SimpleWorker; rq jobs of 500 events on the same; birdfeed's worker; and the floor, LPOP of packed
batches in a loop with no queue semantics at all.
"""

import argparse
import logging
import statistics
from collections.abc import Callable

from birdfeed_schemas.wire.envelope import Header, encode_batch
from redis import Redis
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from bench.delivery_parts import Seconds, fill, lines, one_worker, redis, sink, timed, work

BATCH = 500


def packed(start: int, count: int) -> str:
    header = Header(batch_id="b", event_type="text_generation", count=count)
    return encode_batch(header, lines(10_000)[start % 9_000 : start % 9_000 + count])


def stock(connection: Redis, events: int, per_job: int) -> Seconds:
    """Seconds per event with rq's SimpleWorker."""
    queue = Queue("stock", connection=connection, serializer=JSONSerializer)
    for start in range(0, events, per_job):
        queue.enqueue(work, packed(start, per_job), description="bench", result_ttl=30)
    worker = SimpleWorker([queue], connection=connection, serializer=JSONSerializer)
    with timed() as took:
        worker.work(burst=True, logging_level="ERROR")
    return took / events


def ours(connection: Redis, events: int) -> Seconds:
    """Seconds per event with birdfeed's worker."""
    fill(connection, events, BATCH)
    return one_worker() / events


def floor(connection: Redis, events: int) -> Seconds:
    """Seconds per event with a plain loop."""
    for start in range(0, events, BATCH):
        connection.rpush("floor", packed(start, BATCH))
    with timed() as took:
        while (batch := connection.lpop("floor")) is not None:
            assert isinstance(batch, bytes)
            work(batch.decode())
    return took / events


def main() -> None:
    """Print events per second and ratios, as medians of the rounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with sink(), redis() as connection:
        ways: dict[str, Callable[[], Seconds]] = {
            "rq, one job per event": lambda: stock(connection, options.events // 80, 1),
            f"rq, jobs of {BATCH}": lambda: stock(connection, options.events, BATCH),
            "birdfeed": lambda: ours(connection, options.events),
            "floor: LPOP in a loop": lambda: floor(connection, options.events),
        }
        seconds: dict[str, list[Seconds]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, way in ways.items():
                took = way()
                if number:  # the first round warms up
                    seconds[name].append(took)
    base = statistics.median(one.wall for one in seconds["rq, one job per event"])
    print(f"{'one process, sink at once':<28}{'events/s':>12}{'µs/event':>10}{'CPU µs':>8}{'ratio':>8}")
    for name, measured in seconds.items():
        wall = statistics.median(one.wall for one in measured)
        cpu = statistics.median(one.cpu for one in measured)
        print(f"{name:<28}{1 / wall:>12,.0f}{wall * 1e6:>10.1f}{cpu * 1e6:>8.1f}{base / wall:>8.0f}")


if __name__ == "__main__":
    main()
