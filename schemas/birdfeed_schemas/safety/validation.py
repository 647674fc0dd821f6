"""What pydantic found wrong, told without the values: they may be secret or private."""

from collections.abc import Callable, Iterator

from pydantic import ValidationError

Place = tuple[int | str, ...]


def problems(error: ValidationError) -> Iterator[tuple[str, Place, str]]:
    """Each problem: pydantic's name for its kind, the field's place, and a sentence without the value."""
    for part in error.errors(include_input=False, include_url=False, include_context=False):
        yield part["type"], part["loc"], part["msg"].removeprefix("Value error, ")


def sentences(error: ValidationError, name: Callable[[Place], str] = lambda place: ".".join(map(str, place))) -> str:
    """Every problem in one sentence each; `name` makes a field's name of its place."""
    return "; ".join(": ".join(filter(None, (name(place), message))) for _, place, message in problems(error))
