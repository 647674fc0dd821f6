"""A handler on another host, as far as anybody can see: a process with another host name, spool and user of Redis."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers.system import System

#: Its host.
HOST = "web-9"
#: Tracks as many events as each line says, until its input ends. A line that ends with "!" asks for a wrong call, too.
PROGRAM = f"""
import socket, sys
socket.gethostname = lambda: {HOST!r}
import birdfeed
number = 0
for line in sys.stdin:
    for _ in range(int(line.strip(" !\\n"))):
        birdfeed.track_event("text_generation", {{"model": "gpt-4o", "request_id": f"r{{number}}"}})
        number += 1
    if "!" in line:
        birdfeed.track_event("text_generation", 5)
    print(birdfeed.flush(), flush=True)
"""
#: What may be done by a user of Redis who may do everything.
EVERYTHING = ["ACL", "SETUSER", "web", "on", ">secret", "~*", "+@all"]


class Handler:
    """What the test tells it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def track(self, events: int, *, wrongly: bool = False) -> None:
        """So many events, and a wrong call after them; returns once they are in Redis or on its disk."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{events}{'!' if wrongly else ''}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "True\n"


@contextmanager
def handler_elsewhere(system: System, spool: Path, *, may_enqueue: bool) -> Iterator[Handler]:
    """It runs. Without the right to enqueue its heartbeat is all that Redis takes from it; see EVERYTHING."""
    system.redis.execute_command(*EVERYTHING, *([] if may_enqueue else ["-rpush"]))
    url = system.environment["BIRDFEED_REDIS_URL"].replace("redis://", "redis://web:secret@")
    environment = {**system.environment, "BIRDFEED_REDIS_URL": url, "BIRDFEED_SPOOL_DIR": str(spool)}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        yield Handler(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
    system.redis.execute_command("ACL", "DELUSER", "web")
