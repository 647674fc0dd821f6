"""Errors that the command line explains in one sentence, each with its exit code."""

import typer
from birdfeed_worker.errors import BirdfeedError, ConfigurationError, QueryError, TinybirdError

from birdfeed_cli.common.console import PARTLY, UNREACHABLE, USAGE


class WrongUse(Exception):  # noqa: N818 - what a person typed, explained in a sentence
    """The command can't be run as it was typed; the message says why and what to type."""


class Unreachable(Exception):  # noqa: N818 - a state of the world, explained in a sentence
    """Redis can't be reached; the message says where and why."""


class Declined(Exception):  # noqa: N818 - an answer, not a failure
    """The answer to the question was not yes. Nothing was changed."""


def wrong_value(option: str, message: str) -> typer.BadParameter:
    """An error about an option's value, in the same form as typer's own."""
    return typer.BadParameter(message, param_hint=f"'{option}'")


def explained(error: Exception) -> tuple[str, int] | None:
    """The sentence and the exit code for an error; None for one that is a bug."""
    # Imported here: most commands end without an error, and import this module for its classes.
    from birdfeed.errors import BirdfeedError as ProducerError
    from birdfeed_schemas.safety.untrusted import redis_error
    from birdfeed_schemas.settings import explain
    from birdfeed_worker.queue.kinds import WrongKindError
    from pydantic import ValidationError
    from redis.exceptions import RedisError

    match error:
        case ConfigurationError():  # of a price book: each problem is a line
            return "; ".join(str(error).split("\n")), USAGE
        case typer.BadParameter():
            return error.format_message(), USAGE
        case Declined():
            return str(error), PARTLY
        case Unreachable() | WrongKindError():
            return str(error), UNREACHABLE
        case RedisError():
            return f"Redis failed: {redis_error(error)}", UNREACHABLE
        case TinybirdError():
            return str(error), store_code(error)
        case ValidationError():
            return f"invalid settings: {explain(error)}", USAGE
        case WrongUse() | BirdfeedError() | ProducerError():
            return str(error), USAGE
    return None


def store_code(error: TinybirdError) -> int:
    """The exit code for an error of Tinybird's: it doesn't answer now, or the settings are wrong."""
    if not isinstance(error, QueryError) or error.status in (0, 408, 429) or error.status >= 500:
        return UNREACHABLE
    return USAGE
