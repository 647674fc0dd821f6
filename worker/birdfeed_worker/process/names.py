"""Names of worker processes, as `rq info` shows them."""

import os
import socket
from uuid import uuid4


def worker_name() -> str:
    """Unique among all hosts and readable: the launcher's name and a random part. For the launcher to call."""
    return f"{pool_name()}-{uuid4().hex[:6]}"


def pool_name() -> str:
    """This launcher's name: host and pid."""
    host = "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname().split(".")[0])
    return f"birdfeed-{host}-{os.getpid()}"


def pool_of(worker: str) -> str:
    """The launcher's name from its worker's."""
    return worker.rpartition("-")[0] or worker
