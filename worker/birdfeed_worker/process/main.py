"""Start a pool: read the settings, check Redis once, run the launcher."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from birdfeed_schemas.safety.redis_facts import RedisFacts, redis_facts
from birdfeed_schemas.safety.untrusted import redis_error, without_arguments
from birdfeed_schemas.safety.urls import shown
from birdfeed_schemas.tables.variables import unknown_variables
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.process.http import Listen, Pages, Server, listen
from birdfeed_worker.process.launcher import Pool
from birdfeed_worker.process.logs import configure_first_logs, configure_logs, say_fatal
from birdfeed_worker.process.parent_watch import when_parent_ends
from birdfeed_worker.queue.connect import LOG_IN, connect
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.schema_check import check_at_start
from birdfeed_worker.tinybird.schema_compare import Mismatch
from birdfeed_worker.tinybird.schema_state import SchemaWatch
from birdfeed_worker.wiring import book_source_of, tiers_of, tinybird_of

log = logging.getLogger(__name__)

#: Seconds between two tries to reach a Redis that is away, and between two log lines about it.
REDIS_WAIT_SECONDS: Final = 1.0
SAY_AGAIN_SECONDS: Final = 60.0
#: Environment variable with a pipe's reading end: when the pipe closes, the pool's parent is gone, and the pool stops.
PARENT_FD: Final = "BIRDFEED_PARENT_FD"


#: Makes the server for the console and the launcher's pages; raises ConfigurationError.
MakeListen: TypeAlias = Callable[[WorkerSettings, Keys], Listen]


def stop_with_parent() -> None:
    """Stop as on SIGTERM when the parent process is gone, if it passed a pipe for that."""
    if PARENT_FD not in os.environ:
        return
    fd = int(os.environ.pop(PARENT_FD))
    when_parent_ends(fd, lambda: os.kill(os.getpid(), signal.SIGTERM), "birdfeed-parent")


def log_unknown(environment: Mapping[str, str]) -> None:
    """Log each `BIRDFEED_*` variable that is not a setting, with the one that was probably meant; no values."""
    for name, near in unknown_variables(environment).items():
        log.warning("%s is not a birdfeed setting%s", name, f"; did you mean {near}?" if near else "")


def run_pool(processes: int | None = None, console: MakeListen | None = None) -> int:
    """Run workers until SIGTERM. Exit codes: 0 stopped as asked, 2 the settings or the Redis can't work.

    Args:
        processes: Number of workers; None: as in the settings.
        console: Makes the server that also serves the console, if BIRDFEED_CONSOLE_ON_METRICS_PORT is set.
    """
    stop_with_parent()
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):  # the pool sets its own later
        signal.signal(signum, lambda signum, frame: stop.set())
    log_format = configure_first_logs()
    try:
        settings = WorkerSettings.load()
        if processes is not None:
            settings = settings.model_copy(update={"processes": processes})
        log_format = settings.log_format
        configure_logs(log_format, settings.log_level)
        log_unknown(os.environ)
        connection = connect(settings.redis_url_text)
        mismatches = check(settings, connection)
        facts = wait_for_redis(settings.redis_url_text, stop)
        if facts is None:
            return 0
        look_at_redis(facts, settings)
        keys = Keys(settings.key_prefix, settings.queue)
        serve = listen_of(settings, keys, console)
    except (ConfigurationError, ValueError) as error:
        say_fatal(log_format, error)
        return 2
    if not settings.has_read_token:
        log.warning(
            "TINYBIRD_READ_TOKEN is not set: after a lost answer the worker can't ask what was written and "
            "sends the same bytes again, which may duplicate rows"
        )
    pool = Pool(settings, connection, keys)
    server = None
    if settings.metrics_port:
        pages = Pages(pool.pulse, connect(settings.redis_url_text, tries=1), keys)
        server = Server(pages, settings.metrics_host, settings.metrics_port, serve).start()
    watch = watch_schema(settings, connection, keys, mismatches)
    try:
        # A signal may have come before the pool's own handlers were set.
        return 0 if stop.is_set() else pool.run()
    finally:
        if watch is not None:
            watch.end()
        if server is not None:
            server.close()


def listen_of(settings: WorkerSettings, keys: Keys, console: MakeListen | None) -> Listen:
    """The function that serves the launcher's port.

    Raises:
        ConfigurationError: The console is to be served, but can't be.
    """
    if not settings.console_on_metrics_port:
        return listen
    if console is None:
        raise ConfigurationError("BIRDFEED_CONSOLE_ON_METRICS_PORT works only with `birdfeed worker`")
    if not settings.metrics_port:
        raise ConfigurationError("BIRDFEED_CONSOLE_ON_METRICS_PORT needs a port: BIRDFEED_METRICS_PORT is 0")
    return console(settings, keys)


def wait_for_redis(url: str, stop: threading.Event) -> RedisFacts | None:
    """Wait until Redis answers; returns its facts, or None if told to stop before.

    One log line says that it doesn't answer, and why; it may still be starting.

    Raises:
        ConfigurationError: It refuses the user or password.
    """
    place = shown(url)
    next_line = float("-inf")
    with connect(url, tries=1) as connection:
        while True:
            try:
                return redis_facts(connection)
            except (AuthenticationError, AuthorizationError) as error:
                raise ConfigurationError(
                    f"Redis at {place} refuses the login: {without_arguments(error)} {LOG_IN}"
                ) from None
            except RedisError as error:
                if time.monotonic() >= next_line:
                    next_line = time.monotonic() + SAY_AGAIN_SECONDS
                    log.error("waiting for Redis at %s, which doesn't answer: %s", place, redis_error(error))
            if stop.wait(REDIS_WAIT_SECONDS):
                return None


def look_at_redis(facts: RedisFacts, settings: WorkerSettings) -> None:
    """Log what in this Redis's configuration can lose events, and what can't be read of it.

    Raises:
        ConfigurationError: birdfeed can't use it, or BIRDFEED_REDIS_CHECK forbids it.
    """
    if facts.unsuitable:
        raise ConfigurationError(facts.unsuitable)
    for warning in facts.warnings:
        log.warning("%s", warning)
    for note in facts.notes:
        log.info("%s", note)
    if facts.warnings and settings.redis_check == "refuse":
        raise ConfigurationError(f"{'; '.join(facts.warnings)}; BIRDFEED_REDIS_CHECK=refuse, so no worker starts")


def watch_schema(
    settings: WorkerSettings, connection: Redis, keys: Keys, found: Sequence[Mismatch] | None
) -> SchemaWatch | None:
    """Store the mismatches found at the start, and check again while workers run; None if that is off."""
    if settings.schema_check == "off" or not settings.has_read_token:
        return None
    watch = SchemaWatch(tinybird_of(settings), connection, keys, settings.schema_check_seconds)
    if found is not None:
        try:
            watch.note(found)
        except RedisError as error:
            log.warning("can't store the result of checking the data sources' columns: %s", error)
    watch.start()
    return watch


def check(settings: WorkerSettings, connection: Redis) -> list[Mismatch] | None:
    """Check everything that the workers will need, so that an error is reported once and not by each of them.

    Returns the mismatches of Tinybird's columns; None if they aren't known.

    Raises:
        ConfigurationError: Something is missing or wrong; the message says what.
    """
    with tinybird_of(settings.model_copy(update={"read_timeout": min(10.0, settings.read_timeout)})) as tinybird:
        found = check_at_start(tinybird, settings.schema_check)
    book_source_of(settings)
    tiers_of(settings, connection)
    return found
