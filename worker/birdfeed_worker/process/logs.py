"""Logs: text on a terminal, JSON elsewhere; with ids, types and counts, but never event data or tokens."""

import logging
import os
import sys
from typing import Literal, TypeAlias

import structlog
from birdfeed_schemas.safety.untrusted import visible
from structlog.typing import EventDict


def on_one_line(_: object, __: str, event: EventDict) -> EventDict:
    """Make a record's text safe for a terminal (JSON escapes it anyway). A traceback's lines are indented."""
    for name, value in event.items():
        if name == "exception" and isinstance(value, str):
            event[name] = "\n".join(f"    {visible(line)}" for line in value.split("\n"))
        elif isinstance(value, str):
            event[name] = visible(value)
    return event


LogFormat: TypeAlias = Literal["auto", "console", "json"]


def for_people(log_format: LogFormat) -> bool:
    """Whether to log text for people, not JSON."""
    return log_format == "console" or (log_format == "auto" and sys.stderr.isatty())


def configure_first_logs() -> LogFormat:
    """Configure logs until the settings are read, so that even the first line is JSON if wanted; returns the format."""
    wanted = os.environ.get("BIRDFEED_LOG_FORMAT", "")
    log_format: LogFormat = "json" if wanted == "json" else "console" if wanted == "console" else "auto"
    configure_logs(log_format, "info")
    return log_format


def say_fatal(log_format: LogFormat, error: Exception) -> None:
    """Report why this process can't start: as a sentence on a terminal, else as a log line."""
    if for_people(log_format):
        print(f"birdfeed: {error}", file=sys.stderr)
    else:
        logging.getLogger(__name__).critical("%s", error)


def configure_logs(log_format: LogFormat, level: str) -> None:
    """Send the standard library's log records, birdfeed's and rq's, through structlog to standard error."""
    console = for_people(log_format)
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
    # httpx logs URLs at INFO, and rq logs every job and heartbeat.
    for noisy in ("httpx", "httpcore", "rq", "rq.worker"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
