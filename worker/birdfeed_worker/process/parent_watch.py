"""Parent watch: know when the process that started this one is gone, however it died."""

import os
import threading
from collections.abc import Callable


def when_parent_ends(fd: int, then: Callable[[], None], name: str) -> None:
    """Call `then`, in a thread of that name, when the pipe ends whose other end the parent holds.

    Args:
        fd: The pipe's reading end; what is written into it means nothing.
        then: What follows.
        name: Of the thread.
    """

    def watch() -> None:
        while os.read(fd, 1024):
            pass
        then()

    threading.Thread(target=watch, name=name, daemon=True).start()
