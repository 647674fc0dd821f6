"""`--watch`: show the same view every two seconds, until q or Ctrl-C. On a pipe, the views follow each other."""

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from birdfeed_schemas.safety.untrusted import redis_error
from birdfeed_worker.queue.kinds import WrongKindError
from redis.exceptions import RedisError
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from birdfeed_cli.common.console import OK, out
from birdfeed_cli.common.errors import WrongUse

#: Seconds between two views.
EVERY: Final = 2.0


def watched(view: Callable[[], RenderableType], *, as_json: bool = False) -> int:
    """Show `view()` live, with the time it was read; while Redis doesn't answer, show that and try again.

    Raises:
        WrongUse: JSON is requested as well.
    """
    if as_json:
        raise WrongUse("--watch and --json can't be combined; choose one")
    try:
        with keys_of_terminal() as pressed:
            if not out.is_terminal:
                while True:
                    out.print(_look(view), Text(""))
                    if pressed(EVERY):
                        return OK
            with Live(console=out, screen=True, auto_refresh=False) as live:
                while True:
                    live.update(_look(view), refresh=True)
                    if pressed(EVERY):
                        return OK
    except KeyboardInterrupt:
        return OK


def _look(view: Callable[[], RenderableType]) -> RenderableType:
    try:
        shown = view()
    except RedisError as error:
        what = str(error) if isinstance(error, WrongKindError) else f"Redis doesn't answer ({redis_error(error)})"
        shown = Text(f"{what}; trying again", style="red")
    hint = "; press q to quit" if out.is_terminal and sys.stdin.isatty() else ""
    return Group(Text(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC{hint}", style="dim"), shown)


@contextmanager
def keys_of_terminal() -> Iterator[Callable[[float], bool]]:
    """Yields a function that waits for some seconds, but returns True immediately when q is pressed.

    Keys are read as they are pressed, and not echoed. Without a terminal to read from, the function only waits.
    """
    if not sys.stdin.isatty():
        yield _wait
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def pressed(seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([terminal], [], [], left)[0]:
                keys = os.read(terminal, 1_000)
                if not keys or b"q" in keys.lower():
                    return True
        return False

    try:
        tty.setcbreak(terminal)
        yield pressed
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _wait(seconds: float) -> bool:
    time.sleep(seconds)
    return False
