"""Programs whose processes exit without exit hooks: `python ends.py NAME ARGUMENT...`, like scenarios.py.

Each tracks events numbered from 0 (request_id) and is configured only by environment variables.
"""

import atexit
import multiprocessing
import os
import sys
import threading
import time
from typing import Any

import birdfeed
from birdfeed.integrations.functions import flush_after


def track(number: int) -> None:
    birdfeed.track_event(
        "text_generation", {"model": "m", "request_id": str(number), "environment": os.environ.get("PROGRAM", "")}
    )


def say(*words: object) -> None:
    print(*words, flush=True)


def first_event_in_an_exit_hook(count: str, when: str) -> None:
    """Registered after birdfeed was imported, so that it runs before birdfeed's own.

    Or before, so that it runs after.
    """
    for number in range(int(count)):
        atexit.register(track, number)
    assert when == "after import"


def pool_in_a_block(method: str, count: str) -> None:
    """Leaving the block kills the children with SIGTERM."""
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        pool.map(flush_after(track), range(int(count)), chunksize=1)


def job(number: int) -> None:
    """The job that an rq worker runs."""
    track(number)


def rq_jobs(count: str, worker: str) -> None:
    """Enqueues jobs to its own queue and runs them."""
    from birdfeed.integrations import rq as integration
    from redis import Redis
    from rq import Queue

    connection = Redis.from_url(os.environ["BIRDFEED_REDIS_URL"])
    queue = Queue("app", connection=connection)
    for number in range(int(count)):
        queue.enqueue("tests.support.producer.apps.ends.job", number)
    getattr(integration, worker)([queue], connection=connection).work(burst=True, logging_level="WARNING")


@flush_after
def lambda_handler(number: int) -> str:
    """As AWS Lambda calls it."""
    track(number)
    return "done"


def serverless(count: str) -> None:
    """Invocations, each on a line of input; between them the process is frozen, and in the end killed."""
    for number in range(int(count)):
        sys.stdin.readline()
        say(lambda_handler(number))
    sys.stdin.readline()


def leaves_soon(seconds: str) -> None:
    """A first event, and os._exit some time later: only the last flush interval may be lost."""
    track(0)
    time.sleep(float(seconds))
    os._exit(0)


def configures_while_tracking(mode: str, count: str) -> None:
    """A thread tracks while the main thread configures again, or closes, many times."""
    done = threading.Event()

    def work() -> None:
        for number in range(int(count)):
            track(number)
            time.sleep(0.0002)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    while not done.is_set():
        if mode == "configure":
            birdfeed.configure()
        else:
            birdfeed.close()
    thread.join()
    say(sum(birdfeed.stats().dropped.values()), birdfeed.stats().tracked)


def forks_in_two_threads(forks: str) -> None:
    """Two threads fork at once while a third tracks; every child tracks one event and exits normally."""
    stop = threading.Event()
    counted = [0]

    def work() -> None:
        while not stop.is_set():
            track(1_000_000 + counted[0])
            counted[0] += 1
            time.sleep(0.001)

    def fork(first: int) -> None:
        for number in range(first, first + int(forks)):
            pid = os.fork()
            if pid == 0:
                track(number)
                sent = birdfeed.close()
                os._exit(0 if sent else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    tracking = threading.Thread(target=work)
    tracking.start()
    forking = [threading.Thread(target=fork, args=(first,)) for first in (0, 1_000)]
    for thread in forking:
        thread.start()
    for thread in forking:
        thread.join()
    stop.set()
    tracking.join()
    say(counted[0])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
