"""A marker in place of a prompt, and each place where a program may put one, from the fields of the models."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

from birdfeed_schemas.event_structs import FIELD_TYPES, STRUCTS
from pydantic import BaseModel

#: In place of a prompt: prose, like a prompt.
MARKER = "TOP secret prompt"
#: Fields for any short text; users may write what they like there, and it is sent.
TEXT = {field for field in FIELD_TYPES if field not in {
    *("start_time", "end_time", "duration", "status", "error", "referrer", "cache_hit", "cost", "usage", "stream"),
    *("moderation", "num_images", "has_input_image", "video_seconds", "audio_seconds", "characters"),
}}  # fmt: skip


def raised(make: Callable[[], Any]) -> BaseException:
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


class Typed(BaseModel):
    number: int


def quoting() -> BaseException:
    """pydantic's error quotes its input."""
    return raised(lambda: Typed.model_validate({"number": MARKER}))


def chained() -> BaseException:
    def fail() -> None:
        try:
            raise ValueError(MARKER)
        except ValueError as cause:
            error = RuntimeError("it failed")
            error.add_note(MARKER)
            raise error from cause

    return raised(fail)


#: Ways to hide a marker in a value.
HIDDEN: dict[str, Callable[[], Any]] = {
    "as a key": lambda: {MARKER: 1},
    "as a value": lambda: {"prompt_tokens": MARKER, "a": MARKER},
    "as an attribute": lambda: SimpleNamespace(prompt_tokens=1, prompt=MARKER),
    "nested": lambda: {"a": {"b": {"c": {"d": MARKER}}}},
    "nested key": lambda: {"a": {"b": {MARKER: 1}}},
    "in a list": lambda: [MARKER, {"content": MARKER}],
    "in a tuple": lambda: (MARKER,),
    "in a set": lambda: {MARKER},
    "a whole response": lambda: {
        "id": MARKER,
        "choices": [{"message": {"role": "assistant", "content": MARKER}}],
        "usage": {"prompt_tokens": 3, "note": MARKER},
    },
    "an exception": lambda: ValueError(f"Your prompt: {MARKER}"),
    "an exception that quotes": lambda: ValueError(f"bad input '{MARKER}'"),
    "a cause and a note": chained,
    "pydantic's error": quoting,
    "as enumeration": lambda: {"service_tier": MARKER, "type": MARKER, "severity": MARKER, "modality": MARKER},
    "in moderation": lambda: {"hate": {"filtered": True, "severity": MARKER, "quote": MARKER}, "prompt": MARKER},
    "an error as a mapping": lambda: {
        "type": "bad_request", "message": f'rejected: "{MARKER}"', "body": {"prompt": MARKER}, "param": MARKER,
    },
    "a URL": lambda: f"https://host.example/{MARKER.replace(' ', '_')}?q={MARKER}",
    "as text": lambda: MARKER,
}  # fmt: skip


def hidden_in(field: str) -> Iterator[Any]:
    """Every value that hides the marker, except plain text in fields for text, such as an error's own message."""
    for name, make in HIDDEN.items():
        if not (field in TEXT | {"error"} and name in ("as text", "a URL")):
            yield make()


FIELDS = [(kind, field) for kind, struct in STRUCTS.items() for field in (*struct.__struct_fields__, "messages")]


def leaks(line: str) -> bool:
    return MARKER in line or MARKER.replace(" ", "_") in line
