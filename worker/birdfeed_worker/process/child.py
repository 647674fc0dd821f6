"""One worker process, started by the launcher: `python -m birdfeed_worker.process.child NAME BEAT_FD`.

Its standard input is a pipe from the launcher; when the pipe closes, the launcher is gone and the worker stops. To
BEAT_FD it writes a byte every few seconds as a heartbeat.
"""

import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from redis.exceptions import RedisError

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.process.logs import configure_first_logs, configure_logs, say_fatal
from birdfeed_worker.process.parent_watch import when_parent_ends
from birdfeed_worker.process.presence import forget_worker
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.settings import WorkerSettings

log = logging.getLogger(__name__)

#: Signal on which a worker writes the stacks of its threads to standard error.
STACKS_SIGNAL: Final = signal.SIGUSR1
#: New objects until the garbage collector examines the youngest generation; Python's default is 700.
GC_THRESHOLD: Final = 20_000


def stop_alone(stop_timeout: float, give_back: Callable[[], None]) -> None:
    """Stop this process, because the launcher is gone: gracefully, or after `stop_timeout` seconds by force."""
    log.error("the launcher has exited; this worker stops")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(stop_timeout)
    try:
        give_back()
    except RedisError as error:
        log.error("can't give back the jobs of this worker: %s", type(error).__name__)
    os._exit(1)


def tune_gc() -> None:
    """Let the garbage collector run less often, and never over what is loaded by now.

    A delivery creates hundreds of thousands of objects, all of which are freed by reference counting; searching them
    for cycles after every 700 new ones takes a tenth of a worker's CPU time (docs/explanation/performance.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 10, 10)


def main() -> int:
    """Work until told to stop. Exit codes: 0 stopped as asked, 2 the settings can't work."""
    name, beat_fd = sys.argv[1], int(sys.argv[2])
    # If the process is killed (by a segmentation fault or by the launcher), the stacks are in the log.
    faulthandler.enable()
    faulthandler.register(STACKS_SIGNAL, all_threads=True)
    log_format = configure_first_logs()
    try:
        settings = WorkerSettings.load()
        log_format = settings.log_format
        configure_logs(log_format, settings.log_level)
        # rq is imported late, because it reads its key prefix when it is imported.
        os.environ.setdefault("RQ_KEY_PREFIX", settings.key_prefix)
        from birdfeed_worker.process.bootstrap import keys_of, make_worker

        worker = make_worker(settings, name, beat_fd=beat_fd)
    except (ConfigurationError, ValueError) as error:
        say_fatal(log_format, error)
        return 2

    def give_back() -> None:
        connection, keys = connect(settings.redis_url_text, tries=1), keys_of(settings)
        Reserver(connection, keys, "", settings.lease_seconds).recover(name, died=False)
        forget_worker(connection, keys, name)

    tune_gc()
    when_parent_ends(0, lambda: stop_alone(settings.stop_timeout, give_back), "birdfeed-launcher")
    worker.work()
    return 0


if __name__ == "__main__":
    sys.exit(main())
