"""Redis check: what about a Redis can lose events."""

from redis import Redis
from redis.exceptions import RedisError


def redis_warnings(connection: Redis) -> list[str]:
    """What about this Redis can lose events, one sentence each; nothing where it can't be asked."""
    said = []
    try:
        policy = _config(connection, "maxmemory-policy")
        limit = _config(connection, "maxmemory")
        append_only = _config(connection, "appendonly")
    except RedisError as error:
        return [f"can't read Redis's configuration ({type(error).__name__}); check that it keeps an append-only file"]
    if policy not in {"", "noeviction"} and limit not in {"", "0"}:
        said.append(f"Redis evicts keys when it is full (maxmemory-policy {policy}): queued events can vanish")
    if append_only == "no":
        said.append("Redis keeps no append-only file (appendonly no): a restart loses queued events")
    return said


def _config(connection: Redis, name: str) -> str:
    return str(connection.config_get(name).get(name, ""))
