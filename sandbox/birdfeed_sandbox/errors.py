"""The sandbox's errors.

SandboxError
├── DatafileError      a .datasource or .pipe file is wrong; names file and line
├── QueryError         a query the sandbox refuses before the engine sees it
│   └── TemplateError  an endpoint can't be rendered with the parameters given
├── EngineError        the engine (chDB) refused a statement
├── BodyError          a request body that can't be read as NDJSON
├── FaultError         a fault switch that doesn't exist, or has a value it can't have
├── ApiError           an answer other than success, with its status
└── StartError         the sandbox's process didn't come up, or has gone
"""

from __future__ import annotations

from collections.abc import Mapping


class SandboxError(Exception):
    """Base class of all errors that the sandbox raises."""


class DatafileError(SandboxError):
    """A .datasource or .pipe file is wrong: the file as it was given to the parser, the line from 1, and a sentence."""

    def __init__(self, path: str, line: int, message: str) -> None:
        super().__init__(path, line, message)
        self.path = path
        self.line = line
        self.message = message

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


class QueryError(SandboxError):
    """A query the sandbox refuses before the engine sees it; `status` is the HTTP status to answer with."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


class TemplateError(QueryError):
    """An endpoint can't be rendered with the parameters given."""


class EngineError(SandboxError):
    """The engine (chDB) refused a statement.

    Attributes:
        code: ClickHouse's error code; 0 if the engine gave none.
        message: ClickHouse's message.
        row: The row of the inserted data at fault, counted from 1, if the engine named one.
    """

    def __init__(self, code: int, message: str, row: int | None = None) -> None:
        super().__init__(code, message, row)
        self.code = code
        self.message = message
        self.row = row

    def __str__(self) -> str:
        return self.message


class BodyError(SandboxError):
    """A request body that can't be read as NDJSON; nothing of it was written."""


class FaultError(SandboxError):
    """A fault switch that doesn't exist, or has a value it can't have."""


class ApiError(SandboxError):
    """An answer other than success: its status, the text under `error` in its body, and further headers."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


class StartError(SandboxError):
    """The sandbox's process didn't start, or is gone; the message has its last output."""
