"""Schema state: the store's columns are looked at again while workers run, and what was found is kept in Redis.

A column that is dropped loses its values without an error: Tinybird ignores fields that no column reads.
"""

import logging
import threading
from collections.abc import Iterable
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

#: Most mismatches that are kept; a table of another product has them by the dozen.
MOST: Final = 50
#: How many looks long they are kept, where nobody looks any more.
KEEP_LOOKS: Final = 3


class SchemaWatch:
    """Looks every so often, from one launcher of all that share a queue.

    Args:
        tinybird: The store; closed at the end.
        connection: Redis.
        keys: Names of the keys.
        every: Seconds between two looks.
    """

    def __init__(self, tinybird: "Tinybird", connection: Redis, keys: Keys, every: float) -> None:
        self._tinybird = tinybird
        self._connection = connection
        self._keys = keys
        self._every = every
        self._ended = threading.Event()

    def start(self) -> threading.Thread:
        """Look from now on, in a thread, which is returned; the first time after `every` seconds."""
        thread = threading.Thread(target=self._run, name="birdfeed-schema", daemon=True)
        thread.start()
        return thread

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def look(self) -> None:
        """Once, unless another launcher just did. What can't be asked leaves what is known as it is."""
        # Imported here: `birdfeed status` reads what is kept, and needs no HTTP client.
        from birdfeed_worker.tinybird.schema_check import check_schemas

        lease = self._keys.birdfeed("schema-watch")
        try:
            if not self._connection.set(lease, "1", nx=True, px=max(1, int(self._every * 900))):
                return
            self.note(check_schemas(self._tinybird))
        except TinybirdError as error:
            log.info("the data sources' columns can't be checked now: %s", error)
        except RedisError as error:
            log.info("can't store the result of checking the data sources' columns: %s", error)

    def note(self, found: Iterable[Mismatch]) -> None:
        """Keep what was found, and log it if it is news. Raises RedisError."""
        said = [str(mismatch) for mismatch in found if mismatch.problem in LOSING][:MOST]
        before = read_mismatches(self._connection, self._keys)
        kept_for = int(self._every * 1_000 * KEEP_LOOKS)
        self._connection.set(_key(self._keys), orjson.dumps(said), px=kept_for)
        if said and tuple(said) != before:
            log.warning("%s", in_one_line(said))
        elif before and not said:
            log.info("the data sources match again")

    def _run(self) -> None:
        while not self._ended.wait(self._every):
            self.look()
        self._tinybird.close()


def read_mismatches(connection: Redis, keys: Keys) -> tuple[str, ...]:
    """What the last look found, in sentences; nothing where nobody looked lately, or what is kept can't be read."""
    try:
        found = orjson.loads(connection.get(_key(keys)) or b"[]")
    except ValueError:
        return ()
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _key(keys: Keys) -> str:
    return keys.birdfeed("schema")
