"""Redis for commands that look and leave: quick to say that it isn't there."""

from collections.abc import Callable

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.settings import WorkerSettings
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_cli.common.console import UNREACHABLE, USAGE, fail


class Unreachable(Exception):  # noqa: N818 - a state of the world, shown to people as a sentence
    """Redis can't be reached; the text says where and why."""


def open_redis(settings: WorkerSettings) -> tuple[Redis, Keys]:
    """A connection that works, and the names of the keys.

    Raises:
        Unreachable: It doesn't answer.
        ValueError: No Redis is configured.
    """
    url = settings.redis_url_text
    connection = connect(url, tries=1)
    try:
        connection.ping()
    except RedisError as error:
        raise Unreachable(
            f"Redis at {without_password(url)} doesn't answer ({type(error).__name__}); is it running? "
            "`birdfeed up` starts one"
        ) from None
    return connection, Keys(settings.key_prefix, settings.queue)


def with_redis(run: Callable[[Redis, Keys], int]) -> int:
    """Run a command on Redis; what is wrong with settings or Redis is said in one sentence. Returns the exit code."""
    try:
        return run(*open_redis(WorkerSettings.load()))
    except Unreachable as error:
        return fail(str(error), UNREACHABLE)
    except (ConfigurationError, ValueError) as error:
        return fail(str(error), USAGE)
    except RedisError as error:
        return fail(f"Redis failed: {type(error).__name__}: {error}", UNREACHABLE)


def without_password(url: str) -> str:
    """A URL as it may be shown: who asks, and what with, may be secret."""
    scheme, _, rest = url.partition("://")
    rest, query, _ = rest.partition("?")
    _, at, place = rest.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{place}{'?***' if query else ''}"
