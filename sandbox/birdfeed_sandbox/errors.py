"""The sandbox's errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


class SandboxError(Exception):
    """Base class of all errors that the sandbox raises."""


@dataclass(eq=False, repr=False)
class DatafileError(SandboxError):
    """A .datasource or .pipe file is wrong: the file as it was given to the parser, the line from 1, and a sentence."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(eq=False, repr=False)
class QueryError(SandboxError):
    """A query the sandbox refuses before the engine sees it; `status` is the HTTP status to answer with."""

    message: str
    status: int = 400

    def __str__(self) -> str:
        return self.message


class TemplateError(QueryError):
    """An endpoint can't be rendered with the parameters given."""


@dataclass(eq=False, repr=False)
class EngineError(SandboxError):
    """The engine (chDB) refused a statement.

    Attributes:
        code: ClickHouse's error code; 0 if the engine gave none.
        message: ClickHouse's message.
        row: The row of the inserted data at fault, counted from 1, if the engine named one.
    """

    code: int
    message: str
    row: int | None = None

    def __str__(self) -> str:
        return self.message


class BodyError(SandboxError):
    """A request body that can't be read as NDJSON; nothing of it was written."""


class FaultError(SandboxError):
    """A fault switch that doesn't exist, or has a value it can't have."""


@dataclass(eq=False, repr=False)
class ApiError(SandboxError):
    """An answer other than success: its status, the text under `error` in its body, and further headers."""

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.status}: {self.message}"


class StartError(SandboxError):
    """The sandbox's process didn't start, or is gone; the message has its last output."""
