"""The cost and gain of compressing a request, with each encoding that Tinybird accepts; ratios measured in one run.

python -m bench.compress [--rows 3000]
"""

import argparse
import random
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import orjson
import zstandard

from tests.support import rows as made

ROUNDS = 15


def body(count: int) -> bytes:
    """NDJSON of random rows, as a busy minute makes them."""
    dice = random.Random(1)
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    moments = [noon + timedelta(milliseconds=dice.randrange(60_000)) for _ in range(count)]
    return b"\n".join(orjson.dumps(made.row(dice, "text_generation", when)) for when in moments)


def gzip(level: int) -> Callable[[bytes], bytes]:
    """zlib with gzip's header."""
    return lambda data: zlib.compress(data, level, wbits=31)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000)
    options = parser.parse_args()
    data = body(options.rows)
    ways: dict[str, Callable[[bytes], bytes]] = {"zstd 1": zstandard.ZstdCompressor(level=1).compress}
    ways |= {f"zstd {level}": zstandard.ZstdCompressor(level=level).compress for level in (3, 6, 9)}
    ways |= {f"gzip {level}": gzip(level) for level in (1, 6)}
    print(f"{options.rows} rows of {len(data) / options.rows:.0f} bytes")
    print(f"{'way':<8}{'µs/row':>8}{'bytes/row':>11}{'time':>7}{'size':>7}")
    base: tuple[float, int] | None = None
    for name, compress in ways.items():
        size = len(compress(data))
        seconds = []
        for _ in range(ROUNDS):
            began = time.process_time()
            compress(data)
            seconds.append(time.process_time() - began)
        best = min(seconds)
        base = base or (best, size)
        print(
            f"{name:<8}{best / options.rows * 1e6:>8.2f}{size / options.rows:>11.0f}"
            f"{best / base[0]:>7.1f}{size / base[1]:>7.2f}"
        )


if __name__ == "__main__":
    main()
