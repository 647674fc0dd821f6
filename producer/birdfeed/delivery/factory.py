"""Build what delivers events from the settings. Imported by the flusher's thread: importing redis takes 100 ms."""

import codecs

from birdfeed_schemas.wire.keys import Keys

from birdfeed.buffering.buffer import Buffer
from birdfeed.delivery.delivery import Delivery
from birdfeed.settings import ProducerSettings
from birdfeed.spool.store import Spool
from birdfeed.stats import Counters
from birdfeed.transport.connection import Credentials, connect
from birdfeed.transport.enqueuer import Enqueuer


def assemble(
    settings: ProducerSettings, buffer: Buffer, counters: Counters, credentials: Credentials | None
) -> Delivery:
    """The delivery these settings describe; nothing is connected or opened yet.

    Called under the gate against forks, so it also imports what connecting would import later.

    Raises:
        ValueError: The Redis URL can't be read.
    """
    codecs.lookup("idna")  # which the standard library imports when a host's name is looked up
    return Delivery(
        settings=settings,
        buffer=buffer,
        counters=counters,
        sender=enqueuer(settings, credentials),
        spool=Spool.of(settings) if settings.spool_bytes else None,
    )


def enqueuer(settings: ProducerSettings, credentials: Credentials | None = None) -> Enqueuer:
    """What writes to the Redis these settings name; raises ValueError for a URL that is none."""
    return Enqueuer(
        connect(settings.redis_url_text, timeout=settings.redis_timeout, credentials=credentials),
        Keys(prefix=settings.key_prefix, queue=settings.queue),
        wait_replicas=settings.wait_replicas,
        timeout=settings.redis_timeout,
    )
