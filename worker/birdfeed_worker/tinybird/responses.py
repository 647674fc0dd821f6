"""Read Tinybird's answers strictly. Pure; whatever a body holds, only QueryError is raised here."""

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, Field, StrictStr, TypeAdapter, ValidationError

from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.decide import Answer
from birdfeed_worker.tinybird.http import MAX_LOCATION, Reply

T = TypeVar("T")

#: The longest wait in seconds that is accepted from a header.
MAX_WAIT: Final = 86_400.0
#: Characters kept of a server's message, after redaction.
MAX_DETAIL: Final = 300
#: Bytes of a body that are read for it.
_LOOKED_AT: Final = 20_000
#: Anything shorter is not a token, and may be a word.
_SHORTEST_SECRET: Final = 5
_TOKEN: Final = re.compile(r"p\.[A-Za-z0-9_.-]{20,}|eyJ[A-Za-z0-9_.-]{20,}")
_MARKUP: Final = re.compile(r"(?s)<(script|style)\b.*?</\1\s*>|<!--.*?-->|<[^<>]*>")
_PAGE: Final = re.compile(r"(?i)<(?:!doctype|html|head|body|title|h1|center|p|div|span|br)\b[^<>]*>")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")

Rows = Annotated[int, Field(strict=True, ge=0)]


class Counts(BaseModel):
    """How many rows of a request were accepted, and how many quarantined."""

    successful_rows: Rows
    quarantined_rows: Rows


class ErrorBody(BaseModel):
    """Tinybird's error."""

    error: StrictStr


class ColumnType(BaseModel):
    """A column of a SELECT."""

    name: StrictStr
    type: StrictStr


class ColumnDescription(BaseModel):
    """A column of a data source, with what the token may see."""

    name: StrictStr
    jsonpath: str | None = None
    default_value: Any = None
    nullable: bool | None = None


class Selected(BaseModel):
    """The rows of a SELECT ... FORMAT JSON."""

    data: list[dict[str, Any]]


class Types(BaseModel):
    """The columns of a SELECT."""

    meta: list[ColumnType]


class Description(BaseModel):
    """A data source."""

    columns: list[ColumnDescription]


class Job(BaseModel):
    """A job that Tinybird has started."""

    id: StrictStr


class JobState(BaseModel):
    """The state of a job: `status` is waiting, working, done, error or cancelled."""

    status: StrictStr


def answer_of(reply: Reply, secrets: Iterable[str] = ()) -> Answer:
    """The answer to a request that appends rows."""
    counts = None
    if reply.status in (200, 202) and not reply.problem:
        with suppress(ValidationError):  # decide() treats a 200 without counts as an unknown outcome
            counts = Counts.model_validate_json(reply.body)
    return Answer(
        status=reply.status,
        successful=None if counts is None else counts.successful_rows,
        quarantined=None if counts is None else counts.quarantined_rows,
        retry_after=seconds(reply.headers, "retry-after"),
        reset=seconds(reply.headers, "x-ratelimit-reset"),
        detail="" if reply.status == 200 and not reply.problem else detail(reply, secrets),
    )


def parsed(model: type[T], reply: Reply) -> T:
    """A body as a model; raises QueryError where it isn't one."""
    if reply.problem:
        raise QueryError(reply.status, reply.problem)
    try:
        return TypeAdapter(model).validate_json(reply.body)
    except ValidationError as error:
        raise QueryError(reply.status, f"the answer is not the API's JSON ({shape_error(error)})") from None


def shape_error(error: ValidationError) -> str:
    """What doesn't fit and where, without the value."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]


def detail(reply: Reply, secrets: Iterable[str] = ()) -> str:
    """A server's message for display: short, on one line, without markup and tokens; read as UTF-8 in any case."""
    said = reply.problem
    if not said:
        try:
            said = ErrorBody.model_validate_json(reply.body).error
            if _PAGE.search(said):  # a proxy's HTML page inside an error; otherwise < and > are comparisons
                said = _MARKUP.sub(" ", said)
        except ValidationError:
            said = _MARKUP.sub(" ", reply.body[:_LOOKED_AT].decode("utf-8", "replace"))
    location = reply.headers.get("location")
    if 300 <= reply.status < 400 and location is not None:
        said = f"it redirects to {location[:MAX_LOCATION]}; is TINYBIRD_HOST right? {said}"
    return redact(said, secrets)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """A text cut short, on one line, without these secrets or anything like a token, which 403 bodies repeat."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, "[token]")
    return " ".join(_CONTROL.sub(" ", _TOKEN.sub("[token]", text)).split())[:MAX_DETAIL]


def seconds(headers: Mapping[str, str], name: str) -> float | None:
    """Seconds from a header with a number or a date, at most a day; None if it is neither."""
    value = headers.get(name, "")
    try:
        found = float(value)
    except ValueError:
        try:
            found = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError, TypeError, IndexError):
            return None
    # A wait of years is not meant: it is an epoch time.
    return min(max(found, 0.0), MAX_WAIT) if -MAX_WAIT < found < 1e9 else None
