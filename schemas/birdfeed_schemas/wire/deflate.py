"""zlib streams, which is how rq keeps a job's data.

ISA-L makes and reads them, where there is a package of it: it takes a quarter of zlib's time, and its streams of
full batches are shorter (docs/explanation/performance.md). Elsewhere, and for other levels than 1, the standard
library's zlib does.
"""

import zlib
from typing import Any, Final

try:
    from isal import isal_zlib as fast
except ImportError:  # it has no package for this machine
    fast = zlib  # type: ignore[misc]

#: A job that unpacks to more than this is rejected (a zip bomb); producers' batches are far smaller.
MAX_UNPACKED_BYTES: Final = 128_000_000

#: The level of which ISA-L's streams are as short as zlib's.
_FAST_LEVEL: Final = 1
#: Any, because isal's types name an instance here.
_Error: Any = fast.error


class DeflateError(ValueError):
    """The data is not one whole zlib stream, or is too long unpacked."""


def deflate(data: bytes, level: int) -> bytes:
    """The data as a zlib stream, at one of zlib's levels (0 to 9)."""
    packed: bytes = (fast if level == _FAST_LEVEL else zlib).compress(data, level)
    return packed


def inflate(stream: bytes, most_bytes: int) -> bytes:
    """The data of a zlib stream.

    Raises:
        DeflateError: See there; `most_bytes` is the longest that it may be unpacked.
    """
    unpacker = fast.decompressobj()
    try:
        data: bytes = unpacker.decompress(stream, most_bytes + 1)
    except _Error as error:
        raise DeflateError(f"it is not zlib's: {error}") from None
    if len(data) > most_bytes:
        raise DeflateError(f"it unpacks to more than {most_bytes} bytes")
    if not unpacker.eof:
        raise DeflateError("it ends too early")
    return data
