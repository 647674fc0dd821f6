"""Replicated: a script whose writes replicas have before its answer counts, so that a failover doesn't forget them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis import Redis
from redis.commands.core import Script
from redis.exceptions import NoPermissionError, NoScriptError

from birdfeed_worker.queue.reply import error_code

log = logging.getLogger(__name__)

#: Milliseconds that replicas may take; far under the client's time for one answer (connect.py).
WAIT_MILLISECONDS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Replicated:
    """Runs a script, and asks how many replicas have what it wrote.

    Args:
        connection: Redis.
        script: One of ours.
        replicas: How many must have it; 0: nobody is asked, and nothing is sent for it.
    """

    connection: Redis
    script: Script
    replicas: int

    def __call__(self, keys: Sequence[str], args: Sequence[Any]) -> tuple[Any, int]:
        """The script's answer, and how many replicas have its writes (0 where nobody was asked)."""
        if not self.replicas:
            return self.script(keys=keys, args=args), 0
        try:
            return self._run(keys, args)
        except NoScriptError:  # a master that was a replica, or was restarted
            self.connection.script_load(self.script.script)
            return self._run(keys, args)

    def _run(self, keys: Sequence[str], args: Sequence[Any]) -> tuple[Any, int]:
        # WAIT is about its own connection's writes. So both are always sent together, again and again if need be: a
        # WAIT alone, over a new connection, would be content with nothing.
        with self.connection.pipeline(transaction=False) as pipe:
            pipe.evalsha(self.script.sha, len(keys), *keys, *args)
            pipe.execute_command("WAIT", self.replicas, WAIT_MILLISECONDS)
            answer, replicas = pipe.execute(raise_on_error=False)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(replicas, NoPermissionError):
            raise replicas
        if isinstance(replicas, Exception):
            log.warning("WAIT has no answer (%s): the master may have become a replica", error_code(replicas))
            return answer, 0
        return answer, int(replicas)
