"""A handler on another host, simulated by a process with another host name, spool and Redis user."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers.system import System

#: Its host.
HOST = "web-9"
#: Tracks as many events as each line says, until its input ends. A line that ends with "!" makes a wrong call, too.
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
#: The rights of a Redis user who may do everything.
EVERYTHING = ["ACL", "SETUSER", "web", "on", ">secret", "~*", "+@all"]


class Handler:
    """The handler's process, as the test uses it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def track(self, events: int, *, wrongly: bool = False) -> None:
        """Track `count` events, and a wrong call after them; returns once they are in Redis or in the spool."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{events}{'!' if wrongly else ''}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "True\n"


@contextmanager
def handler_elsewhere(system: System, spool: Path, *, may_enqueue: bool) -> Iterator[Handler]:
    """A running handler. Without the right to enqueue, Redis accepts only its heartbeat; see EVERYTHING."""
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
