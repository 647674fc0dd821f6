"""Run a script and wait until replicas have its writes, so that a failover doesn't lose them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import NoPermissionError, NoScriptError

from birdfeed_worker.queue.reply import error_code
from birdfeed_worker.queue.scripts import QueueScript

log = logging.getLogger(__name__)

#: Milliseconds that replicas may take; far less than the client's time for one answer (connect.py).
WAIT_MILLISECONDS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Replicated:
    """Runs a script, and asks how many replicas have its writes.

    Args:
        replicas: How many must have them; 0: replicas are not asked for.
    """

    script: QueueScript
    replicas: int

    def __call__(self, *args: Any) -> tuple[Any, int]:
        """The script's answer, and how many replicas have its writes (0 if none were asked for)."""
        if not self.replicas:
            return self.script(*args), 0
        try:
            return self._run(args)
        except NoScriptError:  # the master was a replica before, or was restarted
            self.script.connection.script_load(self.script.script.script)
            return self._run(args)

    def _run(self, args: Sequence[Any]) -> tuple[Any, int]:
        # WAIT waits for the writes of its own connection. So both are always sent together, also when retried: a WAIT
        # alone over a new connection would return immediately.
        with self.script.connection.pipeline(transaction=False) as pipe:
            self.script.add_to(pipe, args)
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
