"""The Lua scripts with which workers change jobs in Redis. Each is one atomic step, so that a kill can't lose a job or
leave it in two places. They keep rq's own keys correct (queue list; started, failed and scheduled sorted sets;
execution hashes; the job's status), which `rq info` and rq-dashboard read.

Redis Cluster is not supported: the scripts build key names from the prefix.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from birdfeed_schemas.wire.accounts import ACCOUNT_LUA
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.client import Pipeline
from redis.commands.core import Script
from redis.exceptions import NoScriptError

#: Scripts that only read.
READ_ONLY: Final = frozenset({"dead_sums", "depth", "ledger"})


@dataclass(frozen=True, slots=True)
class QueueScript:
    """A script for one queue: it is called with its arguments from ARGV[3] on; prefix and queue are put before them."""

    connection: Redis
    keys: Keys
    script: Script

    def __call__(self, *args: Any) -> Any:
        """Redis's answer."""
        return self.script(keys=[self.keys.queue_list], args=[self.keys.prefix, self.keys.queue, *args])

    def add_to(self, pipe: Pipeline, args: Iterable[Any]) -> None:
        """Put a call into a pipeline; Redis's answer is NOSCRIPT if it doesn't know the script."""
        pipe.evalsha(self.script.sha, 1, self.keys.queue_list, self.keys.prefix, self.keys.queue, *args)

    def run_all(self, calls: Iterable[Sequence[Any]]) -> list[Any]:
        """The answers to several calls, each given by its arguments, in one round trip.

        redis-py's own way, calling the script on a pipeline, first asks whether Redis knows it: that is another round
        trip, and doesn't help if the master changes in between.
        """

        def run() -> list[Any]:
            with self.connection.pipeline(transaction=False) as pipe:
                for args in waiting:
                    self.add_to(pipe, args)
                return pipe.execute()

        waiting = list(calls)
        try:
            return run()
        except NoScriptError:
            self.connection.script_load(self.script.script)
            return run()


def script(connection: Redis, keys: Keys, name: str) -> QueueScript:
    """The script lua/<name>.lua, with common.lua in front.

    Scripts that write also run on a full Redis (lua/writes.lua), because freeing memory must be possible there.
    """
    parts = ("common", name) if name in READ_ONLY else ("common", "writes", name)
    folder = files("birdfeed_worker.queue") / "lua"
    text = ACCOUNT_LUA + "".join((folder / f"{part}.lua").read_text() for part in parts)
    return QueueScript(connection, keys, connection.register_script(text))


def run_when_full(connection: Redis, keys: Keys, pipe: Pipeline) -> list[Any]:
    """Run a pipeline's commands in one atomic step that a full Redis doesn't refuse; returns their raw answers.

    Only for small values, such as counts and states, without which the work that empties Redis would stop.
    """
    words: list[Any] = []
    for args, _ in pipe.command_stack:
        words += [len(args), *args]
    pipe.reset()
    answers: list[Any] = script(connection, keys, "commands")(*words) if words else []
    return answers
