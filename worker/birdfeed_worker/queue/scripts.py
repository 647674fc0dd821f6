"""The Lua scripts with which workers change jobs in Redis. Each is one atomic step, so that a kill can't lose a job or
leave it in two places. They keep rq's own keys correct (queue list; started, failed and scheduled sorted sets;
execution hashes; the job's status), which `rq info` and rq-dashboard read.

Redis Cluster is not supported: the scripts build key names from the prefix.
"""

from collections.abc import Iterable, Sequence
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


def script(connection: Redis, name: str) -> Script:
    """The script lua/<name>.lua, with common.lua in front, ready to be called with keys and args.

    Scripts that write also run on a full Redis (lua/writes.lua), because freeing memory must be possible there.
    """
    parts = ("common", name) if name in READ_ONLY else ("common", "writes", name)
    folder = files("birdfeed_worker.queue") / "lua"
    return connection.register_script(ACCOUNT_LUA + "".join((folder / f"{part}.lua").read_text() for part in parts))


def run_when_full(connection: Redis, keys: Keys, pipe: Pipeline) -> list[Any]:
    """Run a pipeline's commands in one atomic step that a full Redis doesn't refuse; returns their raw answers.

    Only for small values, such as counts and states, without which the work that empties Redis would stop.
    """
    words: list[Any] = []
    for args, _ in pipe.command_stack:
        words += [len(args), *args]
    pipe.reset()
    if not words:
        return []
    answers: list[Any] = script(connection, "commands")(keys=[keys.ledger], args=[keys.prefix, keys.queue, *words])
    return answers


def run_all(connection: Redis, script: Script, calls: Iterable[tuple[Sequence[str], Sequence[Any]]]) -> list[Any]:
    """The answers of a script to several calls (keys, args), in one round trip.

    redis-py's own way, calling the script on a pipeline, first asks whether Redis knows it: that is another round trip,
    and doesn't help if the master changes in between.
    """

    def run() -> list[Any]:
        with connection.pipeline(transaction=False) as pipe:
            for keys, args in waiting:
                pipe.evalsha(script.sha, len(keys), *keys, *args)
            return pipe.execute()

    waiting = list(calls)
    try:
        return run()
    except NoScriptError:
        connection.script_load(script.script)
        return run()
