"""Send a share of the events of a type: which ones, and what their rows say of it.

Which ones is decided by the caller's idempotency key, else by the trace, else by chance: a handler that is retried
decides as before, and a trace has all of its events of a type or none. What is sent says the share (`sample_rate`), so
that it can stand for what was not. An event that says its own share was sampled by its program, and is sent.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Final

from birdfeed_schemas.fields import COMMON

from birdfeed.encoding.redact import is_given

#: The field that says which share of such events was sent; without it, all were.
SAMPLE_RATE: Final = "sample_rate"
_RATES: Final = (SAMPLE_RATE, *COMMON[SAMPLE_RATE])
_TRACES: Final = ("trace_id", *COMMON["trace_id"])
#: Values of the hash that decides.
_ALL: Final = 2**64


class Sampling:
    """What is sent of each event type.

    Args:
        rates: Event type → share of its events, above 0 and at most 1; types that are not in it are sent whole.
        errors: Whether error events are sampled, too.
    """

    def __init__(self, rates: Mapping[str, float], *, errors: bool) -> None:
        #: Event type → share, of those that are not sent whole.
        self.rates: Final = {event_type: rate for event_type, rate in rates.items() if rate < 1}
        self._errors = errors

    def of(self, event_type: str, event_data: Mapping[str, Any], key: object) -> Mapping[str, Any] | None:
        """The event's data as it is sent, None where it isn't.

        Args:
            event_type: One of `rates`.
            event_data: What the event says.
            key: The caller's own key; None and "" are none.
        """
        if any(event_data.get(name) is not None for name in _RATES):
            return event_data
        if not self._errors and (event_data.get("status") == "error" or is_given(event_data.get("error"))):
            return event_data
        rate = self.rates[event_type]
        if key is None or key == "":
            key = next((trace for name in _TRACES if (trace := event_data.get(name))), None)
        if key is None:
            at = int.from_bytes(os.urandom(8))
        else:
            at = int.from_bytes(hashlib.blake2b(str(key).encode("utf-8", "replace"), digest_size=8).digest())
        return {**event_data, SAMPLE_RATE: rate} if at < rate * _ALL else None
