"""Parent watch: detect that the parent process is gone, however it died."""

import os
import threading
from collections.abc import Callable


def when_parent_ends(fd: int, then: Callable[[], None], name: str) -> None:
    """Call `then` in a new thread when the pipe whose other end the parent holds is closed.

    Args:
        fd: The pipe's reading end; what is written to the pipe is ignored.
    """

    def watch() -> None:
        while os.read(fd, 1024):
            pass
        then()

    threading.Thread(target=watch, name=name, daemon=True).start()
