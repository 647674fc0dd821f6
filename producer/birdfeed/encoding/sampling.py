"""Send only a share of a type's events: choose which, and record the share in their rows.

The choice is made by the caller's idempotency key, else by the trace, else at random: a retried handler gets the same
choice, and of a trace all events of a type are sent or none. The events that are sent carry the share (`sample_rate`),
so that queries can weight them for those that were not. An event that has a `sample_rate` was sampled by its program,
and is sent.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any, Final

from birdfeed_schemas.fields import COMMON

from birdfeed.encoding.redact import is_given

#: The field that holds the share of such events that is sent; without it, all are.
SAMPLE_RATE: Final = "sample_rate"
_RATES: Final = (SAMPLE_RATE, *COMMON[SAMPLE_RATE])
_TRACES: Final = ("trace_id", *COMMON["trace_id"])
#: Number of values of the hash that decides.
_ALL: Final = 2**64


class Sampling:
    """Decides which events of each type are sent.

    Args:
        rates: Event type → share of its events, above 0 and at most 1; all events of other types are sent.
        errors: Whether error events are sampled too.
    """

    def __init__(self, rates: Mapping[str, float], *, errors: bool) -> None:
        #: Event type → share, for the types of which not all events are sent.
        self.rates: Final = {event_type: rate for event_type, rate in rates.items() if rate < 1}
        self._errors = errors

    def of(self, event_type: str, event_data: Mapping[str, Any], key: object) -> Mapping[str, Any] | None:
        """The data of an event of a type in `rates` as it is to be sent; None if it is not to be sent.

        `key` is the caller's idempotency key; None and "" mean there is none.
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
