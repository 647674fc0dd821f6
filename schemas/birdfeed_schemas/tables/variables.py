"""The environment variables that birdfeed reads, and hints on unknown ones, because a misspelt setting has no effect.

Producers and workers often share an environment, and neither imports the other's settings, so the names of both are
listed here. A test compares them with the settings' models.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

_PREFIX: Final = "BIRDFEED_"
#: Every setting's variable, of producers and workers, without the prefix.
VARIABLES: Final = frozenset(
    {
        *("BATCH_BYTES", "BATCH_EVENTS", "BISECT_REQUESTS", "BREAKER_EVENTS", "BREAKER_SHARE", "BUFFER_BYTES"),
        *("BUFFER_EVENTS", "BYTES_PER_SECOND", "CLOSE_TIMEOUT", "COMPRESSION", "CONNECT_TIMEOUT", "DEAD_BYTES"),
        *("CONSOLE_HOST", "CONSOLE_NAMES", "CONSOLE_ON_METRICS_PORT", "CONSOLE_PORT"),
        *("CONSOLE_TOKEN", "CONSOLE_TOKEN_FILE"),
        *("DEAD_DAYS", "DROP_POLICY", "DURABILITY", "ENABLED", "ERROR_MESSAGE", "EXTRA_FIELDS", "FLUSH_INTERVAL"),
        *("GIVE_UP_AFTER", "HMAC_FIELDS", "KEEP_TRACEBACK", "KEY_PREFIX", "LEASE_SECONDS", "LOG_FORMAT"),
        *("LOG_LEVEL", "MAX_DEPTH", "MAX_EVENT_BYTES", "MAX_ITEMS", "MAX_TEXT", "METRICS_HOST", "METRICS_PORT"),
        *("PRICE_BOOK", "PRICE_FALLBACK", "PROCESSES", "QUEUE", "READ_TIMEOUT", "REDIS_CHECK", "REDIS_TIMEOUT"),
        *("REDIS_URL", "REFERRER", "REQUESTS_AT_ONCE", "REQUESTS_PER_SECOND", "REQUEST_BYTES", "REQUEST_ROWS"),
        *("RESERVE_JOBS", "RETRY_BASE", "RETRY_CAP", "SCHEMA_CHECK", "SCHEMA_CHECK_SECONDS", "SETTLE_SECONDS"),
        *(
            "SIGTERM_HOOK",
            "SPOOL_BYTES",
            "SPOOL_DIR",
            "SPOOL_DRAIN_RATE",
            "SPOOL_WAIT",
            "STOP_TIMEOUT",
            "TIERS",
        ),
        *("ENVIRONMENT", "ORGANIZATION", "PROJECT", "SAMPLE", "SAMPLE_ERRORS"),
        *("TIER_TIMEOUT", "TIER_TTL", "USER_HMAC_KEY", "WAIT_REPLICAS"),
    }
)
#: Former names of settings → their current names.
_RENAMED: Final[Mapping[str, str]] = {
    "TAKE_JOBS": "RESERVE_JOBS",
    "HOLD_SECONDS": "LEASE_SECONDS",
    "GUARD_SHARE": "BREAKER_SHARE",
    "GUARD_EVENTS": "BREAKER_EVENTS",
}
#: Prefixes of variables that are not settings: of the sandbox, of birdfeed's tests, and between its own processes.
_OTHERS: Final = ("SANDBOX_", "TESTS_", "CHAOS_", "PARENT_FD")
#: Kubernetes puts the addresses of a service named birdfeed, or birdfeed-worker, into every container's environment.
_KUBERNETES: Final = r"(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP)\w*)"
#: How similar two names must be, from 0 to 1, for one to be suggested for the other.
_ALIKE: Final = 0.7
#: The same for event types, whose names share endings: audio_generation is not a misspelt image_generation.
_TYPES_ALIKE: Final = 0.85


def nearest(name: str, known: Iterable[str], alike: float = _ALIKE) -> str | None:
    """The known name that is most similar to `name`; None if none is similar."""
    from difflib import get_close_matches  # takes 5 ms to import, and is needed only after a mistake

    return next(iter(get_close_matches(name, list(known), 1, alike)), None)


def meant(name: str, known: Iterable[str], alike: float = _ALIKE) -> str:
    """The end of a message about an unknown name: "; did you mean this?", or "" if no name is similar."""
    found = nearest(name, known, alike)
    return f"; did you mean {found}?" if found is not None else ""


def type_meant(event_type: str, known: Iterable[str]) -> str:
    """`meant` for event types."""
    return meant(event_type, known, _TYPES_ALIKE)


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Each `BIRDFEED_*` variable that is not a setting → the one probably meant, or "" if that is not clear."""
    found: dict[str, str] = {}
    for name, value in environment.items():
        word = name.upper().removeprefix(_PREFIX)
        if not name.upper().startswith(_PREFIX) or word in VARIABLES or word.startswith(_OTHERS):
            continue
        if re.fullmatch(_KUBERNETES, word) or value.startswith(("tcp://", "udp://")):
            continue
        near = _RENAMED.get(word) or nearest(word, VARIABLES)
        found[name] = _PREFIX + near if near is not None else ""
    return found
