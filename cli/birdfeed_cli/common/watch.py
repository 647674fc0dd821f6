"""`--watch`: the same view again every two seconds, until Ctrl-C."""

import time
from collections.abc import Callable
from typing import Final

from birdfeed_worker.queue.kinds import WrongKindError
from redis.exceptions import RedisError
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from birdfeed_cli.common.console import OK, out
from birdfeed_cli.common.errors import WrongUse

#: Seconds between two views.
EVERY: Final = 2.0


def watched(view: Callable[[], RenderableType], *, as_json: bool = False) -> int:
    """Show `view()` live; while Redis does not answer, show that and try again.

    Raises:
        WrongUse: JSON is asked for as well.
    """
    if as_json:
        raise WrongUse("--watch and --json can't be combined; choose one")
    with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
        try:
            while True:
                try:
                    shown = view()
                except RedisError as error:
                    what = (
                        str(error)
                        if isinstance(error, WrongKindError)
                        else f"Redis doesn't answer ({type(error).__name__})"
                    )
                    shown = Text(f"{what}; trying again", style="red")
                live.update(shown, refresh=True)
                time.sleep(EVERY)
        except KeyboardInterrupt:
            return OK
