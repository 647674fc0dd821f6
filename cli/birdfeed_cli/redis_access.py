"""Redis for commands that look and leave: quick to say that it isn't there."""

from birdfeed_schemas.keys import Keys
from birdfeed_worker.connect import connect
from birdfeed_worker.settings import WorkerSettings
from redis import Redis
from redis.exceptions import RedisError


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


def without_password(url: str) -> str:
    """A Redis URL as it may be shown."""
    scheme, _, rest = url.partition("://")
    _, at, place = rest.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{place.partition('?')[0]}"
