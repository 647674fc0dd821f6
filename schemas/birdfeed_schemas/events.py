"""What a handler may send: one model per event type.

The models are lenient where SDKs differ (times, identifiers given as numbers, usage of any shape) and strict where a
wrong value would make a wrong row: a number in a text field is an error, and only that event is dead-lettered.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictStr

from birdfeed_schemas.fields import COMMON, IMAGE_GENERATION, TEXT_GENERATION
from birdfeed_schemas.wire.envelope import iso_time

#: Numbers above this are read as epoch milliseconds, not seconds (as seconds it is the year 2603).
_EPOCH_MILLISECONDS_FROM: Final = 2e10
#: A number as text is an epoch time, except eight digits, which are a date (20260131, ISO 8601's basic form).
_EPOCH_TEXT: Final = re.compile(r"(?!\d{8}\Z)\d+(?:\.\d+)?", re.ASCII)
_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
#: The largest count that is accepted; the widest columns (UInt64) hold twice as much.
MAX_COUNT: Final = 2**63 - 1
#: The longest duration that is accepted, in ms; times.py clamps it further.
MAX_DURATION_MS: Final = 1e12
#: The model's name in error events without one: the request failed before a model was chosen.
UNKNOWN_MODEL: Final = "unknown"
#: Characters kept of an error's message and of its traceback, which can hold parts of prompts.
MAX_ERROR_MESSAGE: Final = 1_000
MAX_TRACEBACK: Final = 8_000
#: Characters kept of any other text.
MAX_TEXT: Final = 512


def read_time(value: object) -> datetime | None:
    """Read a time from ISO 8601 text, epoch seconds or epoch milliseconds; it is UTC if it has no zone.

    Epoch times outside 1970 to 2200 are clamped to that range; the worker clamps them again, relative to the event's
    own time, and flags the row.

    Raises:
        ValueError: It is neither a number nor text that can be read as a time.
    """
    if value is None or isinstance(value, datetime):
        when = value
    elif isinstance(value, bool):
        raise ValueError("a time must be ISO 8601 text or epoch seconds or milliseconds, not a boolean")
    elif isinstance(value, int | float):
        return _from_epoch(value)
    elif isinstance(value, str):
        if _EPOCH_TEXT.fullmatch(value):
            # Before fromisoformat, which reads 1712010201230 as a date in the year 1712.
            return _from_epoch(float(value))
        try:
            when = iso_time(value)
        except ValueError:
            try:
                return _from_epoch(float(value))
            except ValueError:
                raise ValueError("a time must be ISO 8601 text or epoch seconds or milliseconds") from None
    else:
        raise ValueError("a time must be ISO 8601 text or epoch seconds or milliseconds")
    if when is None:
        return None
    if when.tzinfo is None:
        return when.replace(tzinfo=UTC)
    try:
        return when.astimezone(UTC)
    except OverflowError:
        return _EARLIEST if when.year < _EARLIEST.year else _LATEST


def _from_epoch(number: float) -> datetime:
    if number != number:
        raise ValueError("a time must be ISO 8601 text or epoch seconds or milliseconds, not NaN")
    seconds = number / 1000 if abs(number) > _EPOCH_MILLISECONDS_FROM else number
    if seconds <= 0:
        return _EARLIEST
    if seconds >= _LATEST.timestamp():
        return _LATEST
    return datetime.fromtimestamp(seconds, UTC)


def _identifier(value: object) -> object:
    """An identifier as text; an integer (a database key) becomes its digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def _reader(wanted: str, bounds: str, most: int) -> Callable[[object], Decimal | None]:
    """A function that reads a number from 0 to `most` exactly; it raises ValueError in these words for others."""

    def read(value: object) -> Decimal | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            raise ValueError(wanted)
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            raise ValueError(wanted) from None
        if not number.is_finite() or number < 0 or number > most:
            raise ValueError(wanted + bounds)
        return number

    return read


#: Read a cost in USD, and seconds of video or audio.
reported_cost: Final = _reader("a cost must be a number of USD", ", 0 or more", 10**15)
read_seconds: Final = _reader("seconds must be a number", " from 0 to 1,000,000,000", 10**9)


class EventError(BaseModel):
    """An error as the handler reported it. A traceback is stored only if the operator's settings say so."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str = ""
    message: str = ""
    code: str = ""
    traceback: str = ""


def _error(value: object) -> object:
    if isinstance(value, str):
        return {"message": value}
    if isinstance(value, Mapping):
        return {
            key: part if isinstance(part, str) else "" if part is None else str(part)
            for key, part in value.items()
            if key in EventError.model_fields
        }
    return value


Name: TypeAlias = Annotated[StrictStr, Field(min_length=1)]
Status: TypeAlias = Literal["success", "error"]
Duration: TypeAlias = Annotated[float, Field(ge=0, le=MAX_DURATION_MS, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Share: TypeAlias = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Verdicts: TypeAlias = dict[str, Any] | None
Failure: TypeAlias = Annotated[EventError | None, BeforeValidator(_error)]
Identifier: TypeAlias = Annotated[StrictStr, BeforeValidator(_identifier)]
Time: TypeAlias = Annotated[datetime | None, BeforeValidator(read_time)]
ReportedCost: TypeAlias = Annotated[Decimal | None, BeforeValidator(reported_cost)]
Seconds: TypeAlias = Annotated[Decimal | None, BeforeValidator(read_seconds)]


def _named(field: str, names: Mapping[str, tuple[str, ...]], default: Any = None) -> Any:
    """A pydantic field that also reads the spellings that fields.py lists for it."""
    aliases = names[field]
    if not aliases:
        return Field(default)
    return Field(default, validation_alias=AliasChoices(field, *aliases))


class Event(BaseModel):
    """The fields of every event type.

    Times are UTC; duration is in milliseconds; cost is in USD, as the handler or provider reported it. Fields that are
    not listed are dropped and counted before an event gets here.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    #: Whether it is a call to a text model: without a usage, its cost can't be computed.
    is_text: ClassVar[bool] = False

    model: Name = _named("model", COMMON, default=...)
    model_used: StrictStr | None = _named("model_used", COMMON)
    provider: StrictStr | None = _named("provider", COMMON)
    user: Identifier | None = _named("user", COMMON)
    username: StrictStr | None = _named("username", COMMON)
    tier: StrictStr | None = _named("tier", COMMON)
    start_time: Time = _named("start_time", COMMON)
    end_time: Time = _named("end_time", COMMON)
    duration: Duration | None = _named("duration", COMMON)
    status: Status | None = _named("status", COMMON)
    error: Failure = _named("error", COMMON)
    request_id: Identifier | None = _named("request_id", COMMON)
    environment: StrictStr | None = _named("environment", COMMON)
    organization: Identifier | None = _named("organization", COMMON)
    project: Identifier | None = _named("project", COMMON)
    referrer: StrictStr | None = _named("referrer", COMMON)
    cache_hit: StrictBool | None = _named("cache_hit", COMMON)
    cache_key: StrictStr | None = _named("cache_key", COMMON)
    service_tier: StrictStr | None = _named("service_tier", COMMON)
    cost: ReportedCost = _named("cost", COMMON)
    trace_id: Identifier | None = _named("trace_id", COMMON)
    span_id: Identifier | None = _named("span_id", COMMON)
    sample_rate: Share | None = _named("sample_rate", COMMON)
    usage: Any = _named("usage", COMMON)

    @property
    def failed(self) -> bool:
        """Whether the work failed: its status says so, or it has an error and no status."""
        return self.status == "error" or (self.status is None and self.error is not None)


class TextGeneration(Event):
    """A call to a text model: `text_generation`."""

    is_text: ClassVar[bool] = True

    stream: StrictBool | None = _named("stream", TEXT_GENERATION)
    response_id: Identifier | None = _named("response_id", TEXT_GENERATION)
    chat_id: Identifier | None = _named("chat_id", TEXT_GENERATION)
    moderation: Verdicts = _named("moderation", TEXT_GENERATION)


class ImageGeneration(Event):
    """A call to an image, video or audio model: `image_generation`. image_size is "WxH" in pixels."""

    image_size: StrictStr | None = _named("image_size", IMAGE_GENERATION)
    num_images: Count | None = _named("num_images", IMAGE_GENERATION)
    quality: StrictStr | None = _named("quality", IMAGE_GENERATION)
    has_input_image: StrictBool | None = _named("has_input_image", IMAGE_GENERATION)
    video_seconds: Seconds = _named("video_seconds", IMAGE_GENERATION)
    audio_seconds: Seconds = _named("audio_seconds", IMAGE_GENERATION)
    characters: Count | None = _named("characters", IMAGE_GENERATION)
