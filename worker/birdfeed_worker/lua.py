"""The Lua scripts by which workers change jobs in Redis: each is one atomic step, so a kill between two Redis
commands can't lose a job or leave it in two places. They keep rq's own keys true (queue list, wip and failed and
scheduled sorted sets, execution hashes, the job's status), which is what `rq info` and rq-dashboard read.

Redis Cluster is not supported: key names are made from the prefix inside the scripts.
"""

from importlib.resources import files

from redis import Redis
from redis.commands.core import Script


def script(connection: Redis, name: str) -> Script:
    """The script lua/<name>.lua, behind common.lua, ready to be called with keys and args."""
    folder = files("birdfeed_worker") / "lua"
    text = (folder / "common.lua").read_text() + (folder / f"{name}.lua").read_text()
    return connection.register_script(text)
