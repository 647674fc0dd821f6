"""Redis for short commands, which fail fast if it isn't there."""

from birdfeed_schemas.safety.untrusted import redis_error, without_arguments
from birdfeed_schemas.safety.urls import shown
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.queue.connect import LOG_IN, SOCKET_TIMEOUT, connect
from birdfeed_worker.settings import WorkerSettings
from redis import Redis
from redis.exceptions import AuthenticationError, AuthorizationError, RedisError

from birdfeed_cli.common.errors import Unreachable


def open_redis(*, tries: int = 1, timeout: float = SOCKET_TIMEOUT) -> tuple[Redis, Keys]:
    """A working connection to the Redis in the settings, and the names of the keys.

    Args:
        tries: How often a failed command is retried.
        timeout: Seconds for each answer.

    Raises:
        Unreachable: Redis does not answer.
        ConfigurationError: No Redis is configured, or the settings are wrong.
    """
    settings = WorkerSettings.load()
    try:
        url = settings.redis_url_text
        connection = connect(url, tries=tries, timeout=timeout)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        connection.ping()
    except (AuthenticationError, AuthorizationError) as error:
        raise Unreachable(f"Redis at {shown(url)} refuses the login: {without_arguments(error)} {LOG_IN}") from None
    except RedisError as error:
        raise Unreachable(
            f"Redis at {shown(url)} doesn't answer ({redis_error(error)}); is it running? `birdfeed up` starts one"
        ) from None
    return connection, Keys(settings.key_prefix, settings.queue)
