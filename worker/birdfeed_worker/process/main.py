"""Start a pool: read the settings, look at Redis once, run the launcher."""

import logging
import os
import signal
import sys
from typing import Final

from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.monitoring.redis_check import redis_warnings
from birdfeed_worker.process.http import Pages, Server
from birdfeed_worker.process.launcher import Pool
from birdfeed_worker.process.logs import configure_logs
from birdfeed_worker.process.parent_watch import when_parent_ends
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.schema_check import check_at_start
from birdfeed_worker.wiring import book_source_of, tiers_of, tinybird_of

log = logging.getLogger(__name__)


#: Environment variable with a pipe's reading end: when the pipe ends, whoever started the pool is gone, and it stops.
PARENT_FD: Final = "BIRDFEED_PARENT_FD"


def stop_with_parent() -> None:
    """Stop like at SIGTERM when the process that started us is gone, if it gave us a pipe to tell by."""
    if PARENT_FD not in os.environ:
        return
    fd = int(os.environ.pop(PARENT_FD))
    when_parent_ends(fd, lambda: os.kill(os.getpid(), signal.SIGTERM), "birdfeed-parent")


def run_pool(processes: int | None = None) -> int:
    """Run workers until SIGTERM. Exit codes: 0 stopped as asked, 2 settings that can't work."""
    stop_with_parent()
    try:
        settings = WorkerSettings.load()
        if processes is not None:
            settings = settings.model_copy(update={"processes": processes})
        configure_logs(settings.log_format, settings.log_level)
        connection = connect(settings.redis_url_text)
        check(settings, connection)
    except (ConfigurationError, ValueError) as error:
        print(f"birdfeed: {error}", file=sys.stderr)
        return 2
    if not settings.has_read_token:
        log.warning(
            "TINYBIRD_READ_TOKEN is not set: after a lost answer the worker can't ask what was written and "
            "sends the same bytes again, which may duplicate rows"
        )
    warnings = redis_warnings(connection)
    for warning in warnings:
        log.warning("%s", warning)
    if warnings and settings.redis_check == "refuse":
        print(f"birdfeed: {'; '.join(warnings)}; BIRDFEED_REDIS_CHECK=refuse, so no worker starts", file=sys.stderr)
        return 2
    keys = Keys(settings.key_prefix, settings.queue)
    pool = Pool(settings, connection, keys)
    if settings.metrics_port:
        pages = Pages(pool.pulse, connect(settings.redis_url_text, tries=1), keys)
        Server(pages, settings.metrics_host, settings.metrics_port).start()
    return pool.run()


def check(settings: WorkerSettings, connection: Redis) -> None:
    """Look at all that the workers will need; better one sentence here than from each of them, again and again.

    Raises:
        ConfigurationError: Something is missing or wrong; the message says what.
    """
    with tinybird_of(settings.model_copy(update={"read_timeout": min(10.0, settings.read_timeout)})) as tinybird:
        check_at_start(tinybird, settings.schema_check)
    book_source_of(settings)
    tiers_of(settings, connection)
