"""The sandbox's settings."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birdfeed_schemas.safety.private_files import private_folder, secret_in

#: The kinds of token; Settings says what each may do.
TOKENS: Final = ("append", "read", "admin")

#: The file in the data directory with the datafiles from which its tables were made.
MANIFEST: Final = "tables.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Tokens and limits.

    Attributes:
        append_token: May send events.
        read_token: May query data sources, quarantines and pipes.
        admin_token: May do everything; only this token may use /_sandbox/.
        requests_per_second: Events requests that a data source takes; 100 according to Tinybird's documentation.
        max_body_bytes: The longest body after decompression; 10 MB in Tinybird's free plan.
    """

    append_token: str
    read_token: str
    admin_token: str
    requests_per_second: float = 100.0
    max_body_bytes: int = 10_000_000


def token_variable(kind: str) -> str:
    """The environment variable of a token. (An argument would be visible to all users in `ps`.)"""
    return f"BIRDFEED_SANDBOX_{kind.upper()}_TOKEN"


def random_token(kind: str) -> str:
    """A new token of 128 random bits."""
    return f"p.sandbox-{kind}-{secrets.token_hex(16)}"


def token_of(kind: str, environment: Mapping[str, str], folder: Path | None) -> str:
    """A token of this kind: from the environment, else from `<kind>.token` in the folder, else a new one.

    With a folder, the file is created if it is missing.

    Raises:
        OSError: The file can't be read or created, or other users can access the folder.
    """
    given = environment.get(token_variable(kind))
    if given:
        return given
    if folder is None:
        return random_token(kind)
    private_folder(folder, ours=f"{TOKENS[0]}.token")
    return secret_in(folder / f"{kind}.token", lambda: random_token(kind))
