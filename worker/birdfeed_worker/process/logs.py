"""Logs: lines for people on a terminal, JSON for machines; ids, types and counts, never event data or tokens."""

import logging
import sys
from typing import Literal

import structlog
from birdfeed_schemas.safety.untrusted import visible
from structlog.typing import EventDict


def on_one_line(_: object, __: str, event: EventDict) -> EventDict:
    """Text of a record as a terminal may show it; JSON escapes by itself. A traceback's lines are indented."""
    for name, value in event.items():
        if name == "exception" and isinstance(value, str):
            event[name] = "\n".join(f"    {visible(line)}" for line in value.split("\n"))
        elif isinstance(value, str):
            event[name] = visible(value)
    return event


def configure_logs(log_format: Literal["auto", "console", "json"], level: str) -> None:
    """Send the standard library's log records, ours and rq's, through structlog to standard error."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *([on_one_line] if console else []),
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # httpx logs URLs at INFO, and rq every job and heartbeat.
    for noisy in ("httpx", "httpcore", "rq", "rq.worker"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
