"""Log without flooding the log: each kind of message at most once a minute.

Messages carry event types, reasons and counts, never event data.
"""

import logging
import time
from typing import Final

#: The one logger of the producer.
logger: Final = logging.getLogger("birdfeed")

#: Seconds in which one kind of message is written at most once; an outage would otherwise write thousands.
QUIET_SECONDS: Final = 60.0

#: Kinds remembered at most; kinds are few, but one per unknown event type is among them.
_MAX_KINDS: Final = 500

_logged: dict[str, tuple[float, int]] = {}


def log_throttled(level: int, kind: str, message: str, *args: object) -> None:
    """Log `message` unless the same `kind` was logged less than a minute ago.

    Args:
        level: A level of the logging module.
        kind: What is counted as the same message, such as "redis away".
        message: A %-format, as logging takes it.
        args: Its arguments; never event data.
    """
    now = time.monotonic()
    last, held_back = _logged.get(kind, (-QUIET_SECONDS, 0))
    if now - last < QUIET_SECONDS:
        _logged[kind] = (last, held_back + 1)
        return
    if len(_logged) >= _MAX_KINDS:
        _logged.clear()
    # Set before logging: a handler that itself tracks an event must not come back here.
    _logged[kind] = (now, 0)
    if held_back:
        message += f" (and {held_back} more like this)"
    logger.log(level, message, *args)


def log_once(level: int, kind: str, message: str, *args: object) -> None:
    """Log `message` once in the life of the process."""
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
    """Forget what was said; for tests."""
    _logged.clear()
