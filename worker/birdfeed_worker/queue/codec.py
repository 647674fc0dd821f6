"""rq's job data: zlib over the JSON of a call with one packed batch."""

from collections.abc import Sequence

import orjson
from birdfeed_schemas.wire.deflate import MAX_UNPACKED_BYTES, DeflateError, deflate, inflate
from birdfeed_schemas.wire.envelope import Header, WireError, encode_batch
from birdfeed_schemas.wire.keys import JOB_FUNCTION


def unpack(data: bytes) -> str:
    """The packed batch from rq's job data.

    Raises:
        WireError: It is not rq's JSON for a call of birdfeed's own function with one text argument. Nothing else is
            ever called.
    """
    try:
        function, _instance, args, _kwargs = orjson.loads(inflate(data, MAX_UNPACKED_BYTES))
    except DeflateError as error:
        raise WireError(f"the job's data can't be unpacked: {error}") from error
    except (ValueError, TypeError) as error:
        raise WireError(f"the job's data is not rq's JSON: {type(error).__name__}") from error
    if function != JOB_FUNCTION:
        raise WireError("the job calls a function other than birdfeed's")
    if not (isinstance(args, list) and len(args) == 1 and isinstance(args[0], str)):
        raise WireError("the job's arguments are not one packed batch")
    packed: str = args[0]
    return packed


def pack(packed: str, level: int = 6) -> bytes:
    """rq's job data for a packed batch, as rq's JSONSerializer and zlib make it."""
    return deflate(orjson.dumps([JOB_FUNCTION, None, [packed], {}]), level)


def repack(header: Header, lines: Sequence[bytes], level: int = 6) -> tuple[bytes, int]:
    """Job data for some lines of a batch, and their size before compression."""
    packed = encode_batch(header, lines)
    return pack(packed, level), len(packed)
