"""Tinybird for commands that read rows."""

from typing import Final

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.wiring import reader_of, tinybird_of

#: The message about a table that was created before rows kept their usage.
NO_USAGE_RAW: Final = "{} has no column usage_raw: `birdfeed tinybird init` writes the datafile that has it"


def open_store(settings: WorkerSettings, *, write: bool = False) -> Tinybird:
    """A client that can read and, with `write`, append.

    Raises:
        ConfigurationError: The host or a token is missing or wrong.
    """
    try:
        reader = reader_of(settings)
        if not write:
            return reader
        reader.close()
        return tinybird_of(settings)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
