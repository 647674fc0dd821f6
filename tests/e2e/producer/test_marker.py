"""A marker in place of a prompt is put into every field, and must not be in any place where events are kept."""

import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import birdfeed
import pytest
from birdfeed import api
from birdfeed.client import Client
from birdfeed.delivery.spool_drain import drain, spool_files
from birdfeed_sandbox.process import Sandbox

from tests.support.producer.markers import FIELDS, MARKER, hidden_in, leaks
from tests.support.redis_contents import all_of
from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import TABLES, System

#: The control, in fields for text: it must be found, or the search itself doesn't work.
CONTROL = "control-model-1"


@pytest.fixture
def system(valkey_url: str, sandbox: Sandbox, tmp_path: Path) -> Iterator[System]:
    """A system on the session's Valkey, empty; many dead letters don't trip the circuit breaker here."""
    with System(valkey_url, sandbox, tmp_path, BIRDFEED_BREAKER_EVENTS="1000000") as system:
        system.redis.flushall()
        yield system


def track_everything() -> int:
    """Track the marker, hidden in each way in each field of each type, and calls that make no event.

    Returns how many events.
    """
    events = 0
    for event_type, field in FIELDS:
        for value in hidden_in(field):
            data = {"model": CONTROL, "request_id": f"r{events}", "prompt": MARKER, field: value}
            birdfeed.track_event(birdfeed.EventType(event_type), data)
            events += 1
    birdfeed.track_event(birdfeed.EventType(f"{MARKER}\n"), {"model": CONTROL})
    birdfeed.track_event("text_generation", MARKER)  # type: ignore[call-overload]
    return events


def all_of_folder(folder: Path) -> str:
    """Every file's bytes, and all compressed data in it, unpacked."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found.append(data.decode("utf-8", "replace"))
            start = data.find(b"\x78\x01")  # the first byte of zlib's level 1
            while start >= 0:
                with suppress(zlib.error):  # two bytes that are not zlib
                    found.append(zlib.decompressobj().decompress(data[start:]).decode("utf-8", "replace"))
                start = data.find(b"\x78\x01", start + 1)
    return "\n".join(found)


def use(system: System, **settings: Any) -> Client:
    """Let track_event use a new client."""
    client = Client()
    api.use_client(client)
    birdfeed.configure(spool_dir=system.folder / "spool", close_timeout=60, **settings)
    return client


def send_everything(system: System) -> tuple[int, dict[str, str]]:
    """By both kinds of durability while Redis is away, then from the spool.

    Returns how many events, and the text in each place.
    """
    before = api.current_client()
    away = f"redis://127.0.0.1:{free_port()}/0"
    events = 1
    try:
        for durability in ("buffer", "spool"):
            use(system, redis_url=away, durability=durability, spool_wait=60)
            events += track_everything()
            assert birdfeed.close()
        spool = all_of_folder(system.folder / "spool")
        client = use(system, redis_url=system.environment["BIRDFEED_REDIS_URL"], user_hmac_key="key")
        birdfeed.track_event("text_generation", {"model": CONTROL, "user": MARKER, "username": MARKER})
        assert birdfeed.flush(60)
        assert client._options is not None
        for path in spool_files(client._options)[0]:
            assert drain(client._options, path=path).left.events == 0
        queued = all_of(system.redis)
        assert birdfeed.close()
    finally:
        api.use_client(before)
    return events, {"spool": spool, "queue": queued}


def clean(texts: Mapping[str, str], caplog: pytest.LogCaptureFixture) -> None:
    """No text has the marker, and each has the control."""
    for name, text in texts.items():
        assert CONTROL in text, name
        assert not leaks(text), name
    assert caplog.text
    assert not leaks(caplog.text)


def test_the_marker_is_in_no_spool_and_no_redis(system: System, caplog: pytest.LogCaptureFixture) -> None:
    """From no field, whether events wait in memory or on the disk while Redis is away; nor is it in the log."""
    caplog.set_level(logging.DEBUG)
    events, found = send_everything(system)

    assert system.ledger()["accepted:text_generation"] + system.ledger()["accepted:image_generation"] == events
    clean(found, caplog)


@pytest.mark.slow
def test_the_marker_is_in_no_row_and_no_dead_letter(system: System, caplog: pytest.LogCaptureFixture) -> None:
    """Nor in anything else in Redis, or in the workers' log, when all events are delivered."""
    caplog.set_level(logging.DEBUG)
    events, _ = send_everything(system)
    system.start_pool(1)
    system.drained()
    redis = all_of(system.redis)
    selects = [f"SELECT * FROM {table}{end}" for table in TABLES for end in ("", "_quarantine")]
    rows = json.dumps([system.sandbox.sql(select) for select in selects])

    dead = sum(letter.batch.header.count for letter in system.dead() if letter.batch is not None)
    assert dead
    assert sum(system.rows().values()) + dead == events
    clean({"redis": redis, "rows": rows}, caplog)
    assert system.said()
    assert not leaks(system.said())
