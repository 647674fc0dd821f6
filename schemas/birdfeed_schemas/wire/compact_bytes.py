"""Copy bytes that are kept into memory of the right size."""


def compact_bytes(data: bytes) -> bytes:
    """The same bytes, in memory of exactly their size.

    orjson 3.13 returns bytes that keep its write buffer, twelve times their size: 100,000 waiting lines took 780 MB
    instead of 70, and touching new memory for each made writing one five times as expensive.
    """
    return b"".join((data, b""))
