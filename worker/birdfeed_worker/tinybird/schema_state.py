"""Schema state: Tinybird's columns are checked again while workers run, and the mismatches are kept in Redis.

If a column is dropped, its values are lost without an error: Tinybird ignores fields that no column reads.
"""

import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import orjson
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.exceptions import RedisError

from birdfeed_worker.errors import TinybirdError
from birdfeed_worker.tinybird.schema_compare import LOSING, Mismatch, in_one_line

if TYPE_CHECKING:
    from birdfeed_worker.tinybird.client import Tinybird

log = logging.getLogger(__name__)

#: Mismatches kept at most; another product's table has dozens.
MOST: Final = 50
#: For how many intervals they are kept if nothing checks any more.
KEEP_LOOKS: Final = 3


@dataclass(frozen=True, slots=True)
class SchemaWatch:
    """Checks the columns at intervals, in one of the launchers that share a queue.

    Args:
        tinybird: Tinybird's client; closed at the end.
        every: Seconds between two checks.
    """

    tinybird: "Tinybird"
    connection: Redis
    keys: Keys
    every: float
    _ended: threading.Event = field(init=False, default_factory=threading.Event)

    def start(self) -> threading.Thread:
        """Start checking in a thread, which is returned; the first check is after `every` seconds."""
        thread = threading.Thread(target=self._run, name="birdfeed-schema", daemon=True)
        thread.start()
        return thread

    def end(self) -> None:
        """Stop checking."""
        self._ended.set()

    def look(self) -> None:
        """Check once, unless another launcher just did. If Tinybird can't be asked, the stored result stays."""
        # Imported here: `birdfeed status` reads what is kept, and needs no HTTP client.
        from birdfeed_worker.tinybird.schema_check import check_schemas

        lease = self.keys.birdfeed("schema-watch")
        try:
            if not self.connection.set(lease, "1", nx=True, px=max(1, int(self.every * 900))):
                return
            self.note(check_schemas(self.tinybird))
        except TinybirdError as error:
            log.info("the data sources' columns can't be checked now: %s", error)
        except RedisError as error:
            log.info("can't store the result of checking the data sources' columns: %s", error)

    def note(self, found: Iterable[Mismatch]) -> None:
        """Store the mismatches, and log them if they are new. Raises RedisError."""
        said = [str(mismatch) for mismatch in found if mismatch.problem in LOSING][:MOST]
        before = read_mismatches(self.connection, self.keys)
        kept_for = int(self.every * 1_000 * KEEP_LOOKS)
        self.connection.set(_key(self.keys), orjson.dumps(said), px=kept_for)
        if said and tuple(said) != before:
            log.warning("%s", in_one_line(said))
        elif before and not said:
            log.info("the data sources match again")

    def _run(self) -> None:
        while not self._ended.wait(self.every):
            self.look()
        self.tinybird.close()


def read_mismatches(connection: Redis, keys: Keys) -> tuple[str, ...]:
    """The sentences of the last check; empty if there was none lately, or if they can't be read."""
    try:
        found = orjson.loads(connection.get(_key(keys)) or b"[]")
    except ValueError:
        return ()
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _key(keys: Keys) -> str:
    return keys.birdfeed("schema")
