"""What a sandbox is started with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: Tokens of a sandbox on loopback, where nobody chose others.
APPEND_TOKEN: Final = "p.sandbox-append"
READ_TOKEN: Final = "p.sandbox-read"
ADMIN_TOKEN: Final = "p.sandbox-admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Tokens and limits.

    Attributes:
        append_token: May send events.
        read_token: May query data sources, quarantines and pipes.
        admin_token: May do everything, and alone may use /_sandbox/.
        requests_per_second: Events requests a data source takes; Tinybird's documents say 100.
        max_body_bytes: Longest body, measured after decompression; 10 MB is Tinybird's free plan.
        read_quota: Queries answered before 429; None: no end. Tinybird's free plan has 1,000 a day.
    """

    append_token: str = APPEND_TOKEN
    read_token: str = READ_TOKEN
    admin_token: str = ADMIN_TOKEN
    requests_per_second: float = 100.0
    max_body_bytes: int = 10_000_000
    read_quota: int | None = None
