"""Build a Delivery from the options. The flusher's thread imports this module, because importing redis takes 100 ms."""

import codecs
import logging

from birdfeed_schemas.safety.urls import shown
from birdfeed_schemas.wire.keys import Keys

from birdfeed.buffering.buffer import Buffer
from birdfeed.delivery.delivery import Delivery
from birdfeed.errors import SpoolError
from birdfeed.logging_once import log_once
from birdfeed.options import Options
from birdfeed.spool.store import Spool
from birdfeed.stats import Counters
from birdfeed.transport.connection import Credentials, connect
from birdfeed.transport.enqueuer import Enqueuer


def assemble(options: Options, buffer: Buffer, counters: Counters, credentials: Credentials | None) -> Delivery:
    """A Delivery for these options; nothing is connected or opened yet.

    Call it with import_lock held: it also imports what connecting would import later.

    Raises:
        ValueError: The Redis URL is invalid.
    """
    codecs.lookup("idna")  # the standard library imports it when it resolves a host name
    return Delivery(
        options=options,
        buffer=buffer,
        counters=counters,
        sender=enqueuer(options, credentials),
        spool=Spool.of(options) if options.spool_bytes else None,
    )


def announce(options: Options) -> None:
    """Log once which Redis is used and which setting named it, where the spool is, and whether it can be written."""
    url = shown(options.redis_url_text)
    log_once(
        logging.INFO,
        f"redis {url} {options.queue}",
        "events go to %s, queue %s (by %s)",
        url,
        options.queue,
        options.redis_source,
    )
    if not options.spool_bytes:
        return
    spool = Spool.of(options)
    try:
        log_once(logging.INFO, f"spool {spool.path}", "the spool is %s; it is writable", spool.check())
    except SpoolError as error:
        log_once(
            logging.WARNING,
            f"spool {spool.path}",
            "%s; without Redis, events wait in memory only (set BIRDFEED_SPOOL_DIR, or BIRDFEED_SPOOL_BYTES=0)",
            error,
        )


def enqueuer(options: Options, credentials: Credentials | None = None) -> Enqueuer:
    """An Enqueuer for the Redis that these options name; raises ValueError for an invalid URL."""
    return Enqueuer(
        connect(options.redis_url_text, timeout=options.redis_timeout, credentials=credentials),
        Keys(prefix=options.key_prefix, queue=options.queue),
        wait_replicas=options.wait_replicas,
        timeout=options.redis_timeout,
    )
