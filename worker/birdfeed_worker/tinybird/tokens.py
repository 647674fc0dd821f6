"""Tokens from the environment, or from files. A file is read again when its token is refused, so that the token can be
rotated while workers run.
"""

import logging
import threading
from pathlib import Path
from typing import Final

from birdfeed_worker.errors import ConfigurationError
from birdfeed_worker.operator_files import read_text
from birdfeed_worker.settings import sendable

log = logging.getLogger(__name__)

#: Characters of a token's file; Tinybird's tokens have a few hundred.
MAX_TOKEN: Final = 10_000


class Token:
    """One token; threads share it.

    Args:
        variable: The setting that it comes from, for messages.
        value: The token, if it is in the environment.
        path: The file that holds it, if it is in a file.

    Raises:
        ConfigurationError: The file can't be read, is empty, or its token can't be sent in an HTTP header.
    """

    def __init__(self, variable: str, value: str = "", path: Path | None = None) -> None:
        self.variable = variable
        self._path = path
        self._lock = threading.Lock()
        #: The token as it was last read; "" if there is none.
        self.value = value if path is None else self._read(path)
        #: Every value that it has had, in order to remove them from texts.
        self.seen: tuple[str, ...] = (self.value,)

    def replaced(self, refused: str) -> bool:
        """Whether it differs from `refused` now; reads its file again to find out."""
        with self._lock:
            if self.value != refused:
                return True
            if self._path is None:
                return False
            try:
                found = self._read(self._path)
            except ConfigurationError as error:
                # The file may be in the middle of a rotation.
                log.warning("still using the refused token: %s", error)
                return False
            if found == refused:
                return False
            log.warning("%s (%s) has a new token", self.variable, self._path)
            self.seen, self.value = (*self.seen, found), found
            return True

    def _read(self, path: Path) -> str:
        try:
            text = read_text(path, MAX_TOKEN)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self.variable}: can't read {path}: {error}") from None
        try:
            found = sendable(text)
        except ValueError as error:
            raise ConfigurationError(f"{self.variable}: {path}: {error}") from None
        if not found:
            raise ConfigurationError(f"{self.variable}: {path} is empty")
        return found
