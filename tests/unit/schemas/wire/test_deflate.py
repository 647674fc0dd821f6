"""Streams by ISA-L and by zlib: each reads the other's, and rq reads both."""

import sys
import zlib
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
from birdfeed_schemas.wire import deflate as module
from birdfeed_schemas.wire.deflate import DeflateError, deflate, inflate
from hypothesis import given
from hypothesis import strategies as st

DATA = st.binary(max_size=3_000) | st.builds(
    lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 2_000)
)
LEVELS = st.integers(0, 9)


@given(DATA, LEVELS)
def test_there_and_back(data: bytes, level: int) -> None:
    """At every level, and with zlib, as rq has it, on either side."""
    assert inflate(deflate(data, level), len(data)) == data
    assert zlib.decompress(deflate(data, level)) == data
    assert inflate(zlib.compress(data, level), len(data)) == data


@given(DATA, LEVELS, st.data())
def test_a_damaged_stream(data: bytes, level: int, draw: st.DataObject) -> None:
    """It is either refused, with nothing but a DeflateError, or its data have the checksum at its end."""
    damaged = bytearray(deflate(data, level))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(damaged) - 1)) if damaged else 0
        damaged[at : at + draw.draw(st.integers(0, 2))] = draw.draw(st.binary(max_size=3))
    try:
        found = inflate(bytes(damaged), 100_000)
    except DeflateError:
        return

    assert zlib.adler32(found).to_bytes(4) in bytes(damaged), "the checksum was compared"


def test_what_only_isal_reads() -> None:
    """ISA-L doesn't look for some faults that zlib refuses; the data are whole all the same."""
    damaged = bytearray(zlib.compress(bytes(50_000), 4))
    damaged[15] ^= 0x80
    with pytest.raises(zlib.error):
        zlib.decompress(bytes(damaged))

    pytest.importorskip("isal", reason="isal has no package for this machine")
    assert inflate(bytes(damaged), 50_000) == bytes(50_000)


@given(DATA, LEVELS)
def test_every_cut_stream_is_refused(data: bytes, level: int) -> None:
    """Wherever it is cut: its part is never taken for the whole."""
    stream = deflate(data, level)
    for end in {0, 1, 2, len(stream) // 2, len(stream) - 4, len(stream) - 1}:
        with pytest.raises(DeflateError, match="it ends too early"):
            inflate(stream[:end], len(data))


@given(DATA.filter(bool), LEVELS)
def test_the_longest_data(data: bytes, level: int) -> None:
    """To the byte; 128 MB of zeros unpack from 128 kB."""
    with pytest.raises(DeflateError, match=f"it unpacks to more than {len(data) - 1} bytes"):
        inflate(deflate(data, level), len(data) - 1)


@pytest.fixture
def without_isal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module as it is on a machine for which ISA-L has no package."""
    monkeypatch.setitem(sys.modules, "isal", None)
    spec = spec_from_file_location("deflate_without_isal", module.__file__)
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_a_machine_without_isal(without_isal: Any) -> None:
    """zlib does it all; jobs of other machines are read."""
    data = b"abc" * 1_000
    assert without_isal.fast is zlib
    assert without_isal.deflate(data, 1) == zlib.compress(data, 1)
    assert without_isal.inflate(deflate(data, 1), 3_000) == data
    for stream, why in ((b"no zlib", "it is not zlib's"), (zlib.compress(data)[:-1], "it ends too early")):
        with pytest.raises(without_isal.DeflateError, match=why):
            without_isal.inflate(stream, 3_000)
