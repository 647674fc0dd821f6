"""List this host's spools and send what one holds, for an operator: `birdfeed spool list | drain`."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from birdfeed.buffering.buffer import Buffer
from birdfeed.delivery.delivery import Delivery
from birdfeed.delivery.factory import enqueuer
from birdfeed.options import Options
from birdfeed.spool.database import require_spool
from birdfeed.spool.location import private_directory
from birdfeed.spool.store import Spool, Totals
from birdfeed.stats import Counters

#: Seconds between rounds; the rate decides how much each sends.
_PAUSE: Final = 0.1
#: Seconds without progress after which a drain ends. It is above 1 because an empty spool is checked once a second.
_PATIENCE: Final = 1.5
#: Events per second if no rate is given: as fast as Redis takes them.
_UNBOUNDED: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The result of a drain.

    Attributes:
        events: Events sent.
        batches: Jobs that hold them.
        dropped: Events that could not be read back from the disk; the ledger counts them as dropped.
        left: What is still in the spool, because Redis failed or another process holds it.
        redis: "up", "down", or "unknown" if there was nothing to send.
    """

    events: int
    batches: int
    dropped: int
    left: Totals
    redis: str


def spool_files(options: Options) -> tuple[list[Path], list[Path]]:
    """The spools in these options' directory, and the files that were renamed as damaged."""
    directory = private_directory(options.spool_directory)
    return sorted(directory.glob("spool-v*.sqlite3")), sorted(directory.glob("spool-v*.sqlite3.damaged-*[0-9]"))


def drain(
    options: Options,
    *,
    path: Path | None = None,
    rate: float | None = None,
    on_progress: Callable[[int], None] = lambda events: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Drained:
    """Send what is in a spool, oldest first, until it is empty or Redis fails.

    Args:
        options: Where Redis is, and which spool to send.
        path: A spool to send instead, for example one for a Redis that has moved. Its events go to this Redis.
        rate: Events per second; None means as fast as Redis takes them.
        on_progress: Called after each round with the number of events sent so far.
        sleep: Waits for that many seconds.

    Raises:
        SpoolError: The spool can't be read, or the file at `path` is not a spool.
        ValueError: The Redis URL is invalid.
    """
    if path is not None:
        require_spool(path)
    spool = Spool.of(options) if path is None else Spool(path, max_bytes=options.spool_bytes)
    counters = Counters()
    delivery = Delivery(
        # "spool" makes it also pack the single events that a killed process left.
        options=replace(options, spool_drain_rate=rate or _UNBOUNDED, durability="spool"),
        buffer=Buffer(counters=counters),
        counters=counters,
        sender=enqueuer(options),
        spool=spool,
    )
    with closing(delivery):
        # If nothing has moved for this long, another process holds what is left.
        patience = _PATIENCE + (options.batch_events / rate if rate else 0)
        idle, before = 0.0, -1
        while spool.exists() and idle < patience:
            delivery.round()
            on_progress(counters.enqueued)
            left = spool.totals()
            if delivery.breaker.state == "down" or left.events + left.reports == 0:
                break
            idle = idle + _PAUSE if counters.enqueued == before else 0.0
            before = counters.enqueued
            sleep(_PAUSE)
        left = spool.totals() if spool.exists() else Totals(events=0, bytes=0, reports=0)
        return Drained(
            events=counters.enqueued,
            batches=counters.batches,
            dropped=sum(counters.dropped().values()),
            left=left,
            redis=delivery.breaker.state,
        )
