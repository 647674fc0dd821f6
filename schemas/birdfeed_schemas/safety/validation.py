"""Describe pydantic's validation errors without the values, which may be secret or private."""

from collections.abc import Callable, Iterator

from pydantic import ValidationError

Place = tuple[int | str, ...]


def problems(error: ValidationError) -> Iterator[tuple[str, Place, str]]:
    """Each problem: pydantic's error type, the field's location, and a sentence without the value."""
    for part in error.errors(include_input=False, include_url=False, include_context=False):
        yield part["type"], part["loc"], part["msg"].removeprefix("Value error, ")


def sentences(error: ValidationError, name: Callable[[Place], str] = lambda place: ".".join(map(str, place))) -> str:
    """One sentence for each problem; `name` turns a field's location into its name."""
    return "; ".join(": ".join(filter(None, (name(place), message))) for _, place, message in problems(error))
