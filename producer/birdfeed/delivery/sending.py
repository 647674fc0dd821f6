"""Send to Redis, and remember whether it accepted."""

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from birdfeed_schemas.safety.untrusted import redis_error
from birdfeed_schemas.tables.counted import counted
from redis.exceptions import ResponseError

from birdfeed.encoding.batch import PackedBatch
from birdfeed.logging_once import log_throttled
from birdfeed.spool.store import Drops
from birdfeed.stats import Counters
from birdfeed.transport.circuit_breaker import Breaker
from birdfeed.transport.enqueuer import Answer


class Sender(Protocol):
    """The methods of transport.enqueuer.Enqueuer that delivery uses."""

    def enqueue(self, batches: Sequence[PackedBatch]) -> Answer:
        """Send batches."""

    def report(self, report_id: str, drops: Drops) -> Exception | None:
        """Count drops in the ledger."""

    def heartbeat(self, producer_id: str, fields: Mapping[str, str | int | float]) -> Exception | None:
        """Write this process's heartbeat."""

    def close(self) -> None:
        """Close the connections."""


class Sending:
    """A sender behind a circuit breaker."""

    def __init__(self, sender: Sender, breaker: Breaker, counters: Counters, *, keeps: str) -> None:
        """`keeps` says, for the log, where events are kept while Redis is away."""
        self._sender = sender
        self._counters = counters
        self._keeps = keeps
        self.breaker = breaker

    def enqueue(self, batches: Sequence[PackedBatch]) -> Answer:
        """Send batches."""
        answer = self._sender.enqueue(batches)
        self._heard(answer.error)
        return answer

    def report(self, report_id: str, drops: Drops) -> bool:
        """Count drops in the ledger; returns whether that succeeded."""
        return self._heard(self._sender.report(report_id, drops))

    def heartbeat(self, producer_id: str, fields: Mapping[str, str | int | float]) -> bool:
        """Write this process's heartbeat; returns whether that succeeded. A failure doesn't open the breaker."""
        return self._sender.heartbeat(producer_id, fields) is None

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()

    def count(self, drops: Drops) -> None:
        """Count and log dropped events."""
        for (event_type, reason), events in drops.items():
            self._counters.drop(event_type, reason, events)
            log_throttled(logging.ERROR, reason, "dropped %s: %s", counted(events, f"{event_type} event"), reason)

    def _heard(self, error: Exception | None) -> bool:
        if error is None:
            self.breaker.succeeded()
            return True
        self.breaker.failed(answered=isinstance(error, ResponseError))
        log_throttled(
            logging.WARNING,
            "redis away",
            "Redis did not take events (%s); they are kept %s",
            redis_error(error),
            self._keeps,
        )
        return False
