"""Names of worker processes, as `rq info` shows them."""

import os
import socket
from uuid import uuid4


def worker_name() -> str:
    """Unique among all hosts and readable: host, launcher's pid, and a random part."""
    host = "".join(c if c.isalnum() or c == "-" else "-" for c in socket.gethostname().split(".")[0])
    return f"birdfeed-{host}-{os.getpid()}-{uuid4().hex[:6]}"
