"""Log without flooding: each kind of message at most once a minute.

Messages carry event types, reasons and counts, never event data.
"""

import logging
import time
from typing import Final

#: The producer's only logger.
logger: Final = logging.getLogger("birdfeed")

#: Seconds in which one kind of message is logged at most once; an outage would otherwise log thousands.
QUIET_SECONDS: Final = 60.0

#: Kinds remembered at most. There are few, but each unknown event type adds one.
_MAX_KINDS: Final = 500

_logged: dict[str, tuple[float, int]] = {}


def log_throttled(level: int, kind: str, message: str, *args: object) -> None:
    """Log `message`, a %-format, unless one of the same `kind` (such as "redis away") was logged in the last minute.

    `args` are never event data.
    """
    now = time.monotonic()
    last, held_back = _logged.get(kind, (-QUIET_SECONDS, 0))
    if now - last < QUIET_SECONDS:
        _logged[kind] = (last, held_back + 1)
        return
    if len(_logged) >= _MAX_KINDS:
        _logged.clear()
    # Set before logging, so that a logging handler that tracks an event doesn't recurse.
    _logged[kind] = (now, 0)
    if held_back:
        message += f" (and {held_back} more like this)"
    logger.log(level, message, *args)


def log_once(level: int, kind: str, message: str, *args: object) -> None:
    """Log `message` once per process."""
    if kind not in _logged:
        _logged[kind] = (float("inf"), 0)
        logger.log(level, message, *args)


def error_location(error: BaseException) -> str:
    """An error's type and where it was raised; not its message, which may hold event data."""
    trace = error.__traceback__
    if trace is None:
        return type(error).__name__
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{type(error).__name__} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def forget() -> None:
    """Forget what was logged; for tests."""
    _logged.clear()
