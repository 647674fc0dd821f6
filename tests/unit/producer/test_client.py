"""What a program calls: states, settings, flush and close, in one process with a real Redis.

Longer than other files: all tests use the same few fixtures, which a split would copy.
"""

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import birdfeed
import pytest
from birdfeed import EventType, api
from birdfeed.client import Client
from birdfeed.logging_once import forget
from birdfeed.settings import ProducerSettings
from birdfeed_schemas.wire.keys import Keys
from redis import Redis

from tests.support.producer.fakes import REDIS_URL
from tests.support.producer.queued import events_in
from tests.support.wait import eventually


@pytest.fixture(autouse=True)
def producer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Client]:
    """A producer for one test, with its own folder and nothing from the environment."""
    for name in [name for name in os.environ if name.startswith("BIRDFEED_") or name == "REDIS_URL"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIRDFEED_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("BIRDFEED_CLOSE_TIMEOUT", "60")  # for slow machines; flush waits as long, too
    forget()
    made = Client()
    before = api.use_client(made)
    yield made
    made.close()
    api.use_client(before)
    forget()


def track(times: int = 1) -> None:
    for _ in range(times):
        birdfeed.track_event("text_generation", {"model": "m", "user": "u"})


def test_the_first_events_are_sent_with_the_environments_settings(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str, redis: Redis, keys: Keys
) -> None:
    """Without configure(): events wait for the settings, and are filtered by them."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    monkeypatch.setenv("BIRDFEED_USER_HMAC_KEY", "key")
    monkeypatch.setenv("BIRDFEED_EXTRA_FIELDS", "team, shift")
    data = {"model": "m", "user": "u", "team": "blue", "prompt": "p"}
    birdfeed.track_event(EventType("text_generation"), data)
    data["team"] = "changed afterwards"

    assert birdfeed.flush() is True
    (event,) = events_in(redis, keys)
    assert event["data"]["team"] == "blue"
    assert event["data"]["user"] != "u"
    assert event["dropped_fields"] == 1
    assert birdfeed.stats().state == "on"


def test_no_dotenv_file_is_read(tmp_path: Path, valkey_url: str) -> None:
    """The working directory is the host program's; its .env isn't birdfeed's."""
    (tmp_path / ".env").write_text(f"REDIS_URL={valkey_url}\nBIRDFEED_QUEUE=other\n")
    birdfeed.start()
    track()

    assert birdfeed.stats().state == "off"


def test_without_redis_telemetry_is_off_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Events tracked before that are discarded and not counted as lost."""
    with caplog.at_level(logging.INFO, "birdfeed"):
        for _ in range(10):
            track()
        eventually(lambda: birdfeed.stats().state == "off", what="telemetry is off")
        for _ in range(10):
            track()

    eventually(lambda: caplog.records, what="it is said")
    assert [record.message for record in caplog.records] == [
        "telemetry is off: no Redis is configured; set BIRDFEED_REDIS_URL (or REDIS_URL) to turn it on"
    ]
    assert birdfeed.stats().buffered == 0
    assert birdfeed.flush() is True
    eventually(
        lambda: all(thread.name != "birdfeed-flusher" for thread in threading.enumerate()), what="the thread has ended"
    )


def test_wrong_settings_turn_telemetry_off_and_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The handler is not affected; the log names the setting, never its value."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "mysql://user:secret@host")
    monkeypatch.setenv("BIRDFEED_FLUSH_INTERVAL", "soon")
    track()
    eventually(lambda: birdfeed.stats().state == "off", what="telemetry is off")

    assert "a Redis URL starts with" in caplog.text
    assert "BIRDFEED_FLUSH_INTERVAL" in caplog.text
    assert "secret" not in caplog.text
    assert "soon" not in caplog.text


@pytest.mark.parametrize(
    "given", [{"redis_url": "mysql://secret@host"}, {"queu": "typo"}, {"flush_interval": 0}, {"drop_policy": "all"}]
)
def test_configure_raises_for_wrong_settings(given: dict[str, Any]) -> None:
    """It is called when a program starts, so it may raise."""
    with pytest.raises(birdfeed.ConfigurationError, match=f"(?i){next(iter(given))}") as told:
        birdfeed.configure(**given)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("name", ["redis_ulr", "BIRDFEED_REDIS_ULR"])
def test_configure_names_the_probable_setting(name: str) -> None:
    """In either spelling, as in Django's settings."""
    with pytest.raises(birdfeed.ConfigurationError, match=rf"no setting named {name}; did you mean redis_url\?"):
        birdfeed.configure(**{name: "redis://h"})  # type: ignore[arg-type]


def test_configure_logs_misspelt_variables(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and never their values."""
    monkeypatch.setenv("BIRDFEED_USER_HMAC_KEYS", "hunter2")
    birdfeed.configure(enabled=False)
    birdfeed.configure(enabled=False)

    assert caplog.text.count("did you mean BIRDFEED_USER_HMAC_KEY?") == 1
    assert "hunter2" not in caplog.text


def test_configure_takes_settings_or_overrides() -> None:
    """Not both, as their priority would be unclear."""
    with pytest.raises(birdfeed.ConfigurationError):
        birdfeed.configure(ProducerSettings(), queue="q")


def test_overrides_have_priority_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, valkey_url: str, redis: Redis, keys: Keys
) -> None:
    """Also for the Redis URL, which has two variables."""
    monkeypatch.setenv("REDIS_URL", REDIS_URL)
    monkeypatch.setenv("BIRDFEED_REDIS_URL", REDIS_URL)
    monkeypatch.setenv("BIRDFEED_QUEUE", "env")
    birdfeed.configure(redis_url=valkey_url, queue="birdfeed")
    track()

    assert birdfeed.flush() is True
    assert len(events_in(redis, keys)) == 1


def test_a_new_configuration_flushes_what_was_tracked_before(valkey_url: str, redis: Redis) -> None:
    """Each event is sent to the Redis that was configured when it was tracked."""
    for queue in ("one", "two"):
        birdfeed.configure(redis_url=valkey_url, queue=queue, flush_interval=60)
        track()
    birdfeed.close()

    assert len(events_in(redis, Keys("rq", "one"))) == 1
    assert len(events_in(redis, Keys("rq", "two"))) == 1


def test_disabled_sends_and_logs_nothing(valkey_url: str, redis: Redis) -> None:
    """Also with a configured Redis; nothing is logged, as it is intended."""
    birdfeed.configure(redis_url=valkey_url, enabled=False)
    track()
    birdfeed.flush()

    assert birdfeed.stats().state == "off"
    assert redis.keys("*") == []


def test_events_are_sent_within_the_flush_interval(valkey_url: str, redis: Redis, keys: Keys) -> None:
    """Without a call of flush."""
    birdfeed.configure(redis_url=valkey_url)
    track()
    eventually(lambda: events_in(redis, keys), what="the event is in Redis")


def test_tracking_after_close_starts_again(valkey_url: str, redis: Redis, keys: Keys) -> None:
    """An event in a background task that outlives the server's shutdown is not lost."""
    birdfeed.configure(redis_url=valkey_url)
    for _ in range(3):
        track()
        assert birdfeed.close() is True
        assert birdfeed.stats().state == "closed"

    assert len(events_in(redis, keys)) == 3


def test_close_is_quick_and_counts_losses_without_redis_and_spool(caplog: pytest.LogCaptureFixture) -> None:
    """Events that can't be stored within the timeout are counted, logged, and dropped."""
    birdfeed.configure(redis_url=REDIS_URL, spool_bytes=0, flush_interval=60)
    for _ in range(5):
        track()

    assert birdfeed.close(timeout=0.5) is False
    assert birdfeed.stats().dropped == {"closed": 5}
    assert "5 events were lost" in caplog.text


def test_flush_returns_whether_all_events_are_safe(tmp_path: Path) -> None:
    """Events in the spool are safe; events only in memory are not."""
    birdfeed.configure(redis_url=REDIS_URL, spool_dir=tmp_path / "s")
    track()
    assert birdfeed.flush() is True
    assert birdfeed.stats().spooled == 1

    birdfeed.configure(redis_url=REDIS_URL, spool_bytes=0, close_timeout=1)
    track()
    assert birdfeed.flush(60) is False


def test_aflush_lets_the_event_loop_run(valkey_url: str, redis: Redis, keys: Keys) -> None:
    """And returns the same as flush."""
    birdfeed.configure(redis_url=valkey_url, flush_interval=60)

    async def main() -> tuple[bool, int]:
        turns = 0
        track()
        flushing = asyncio.ensure_future(birdfeed.aflush())
        while not flushing.done():
            turns += 1
            await asyncio.sleep(0)
        return await flushing, turns

    safe, turns = asyncio.run(main())
    assert safe is True
    assert turns > 1
    assert len(events_in(redis, keys)) == 1


def test_aflush_returns_after_its_timeout(valkey_url: str, monkeypatch: pytest.MonkeyPatch, producer: Client) -> None:
    """A flusher that finishes later notifies no caller, and continues."""
    birdfeed.configure(redis_url=valkey_url)
    track()
    birdfeed.flush()
    go_on = threading.Event()
    assert producer._pipeline is not None
    monkeypatch.setattr(producer._pipeline._delivery, "round", lambda closing: go_on.wait(10))
    assert asyncio.run(birdfeed.aflush(timeout=0.05)) is False
    assert birdfeed.flush(timeout=0.05) is False
    go_on.set()
    assert birdfeed.flush() is True


@pytest.mark.parametrize(
    "call",
    [
        lambda: birdfeed.track_event(None, {}),  # type: ignore[call-overload]
        lambda: birdfeed.track_event(EventType(""), {}),
        lambda: birdfeed.track_event(EventType("x" * 500), {}),
        lambda: birdfeed.track_event(EventType("line\nbreak"), {}),
        lambda: birdfeed.track_event(EventType("\ud800"), {}),
        lambda: birdfeed.track_event([], {}),  # type: ignore[call-overload]
        lambda: birdfeed.track_event(EventType("text_generation"), None),  # type: ignore[call-overload]
        lambda: birdfeed.track_event(EventType("text_generation"), ["model"]),  # type: ignore[call-overload]
        lambda: birdfeed.track_event(EventType("text_generation"), "model"),  # type: ignore[call-overload]
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_a_bad_call_is_counted(call: Callable[[], None], warm: bool, valkey_url: str, redis: Redis, keys: Keys) -> None:
    """Before and after the settings are known; the drop is in the ledger."""
    birdfeed.configure(redis_url=valkey_url)
    if warm:
        track()
    call()
    birdfeed.flush()

    assert birdfeed.stats().dropped == {"bad_call": 1}
    assert birdfeed.stats().tracked == 1 + warm
    ledger = redis.hgetall(keys.ledger)
    assert ledger[b"dropped:unknown:bad_call"] == b"1"
    assert ledger[b"accepted:unknown"] == b"1"


def test_an_unknown_type_is_sent_without_unknown_fields(
    valkey_url: str, redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker makes a dead letter of it; one warning, however many events."""
    birdfeed.configure(redis_url=valkey_url)
    for _ in range(3):
        birdfeed.track_event(EventType("video_generation"), {"model": "m", "prompt": "secret"})
        birdfeed.flush()

    events = events_in(redis, keys, "video_generation")
    assert [event["data"] for event in events] == [{"model": "m"}] * 3
    assert caplog.text.count("video_generation") == 1


def test_types_made_from_ids_do_not_fill_the_memory(
    valkey_url: str, redis: Redis, keys: Keys, producer: Client
) -> None:
    """They are all sent, filtered, but not cached."""
    birdfeed.configure(redis_url=valkey_url)
    for round_ in range(2):
        for number in range(400):
            birdfeed.track_event(EventType(f"type{round_}-{number}"), {"model": "m", "prompt": "p"})
        birdfeed.flush()

    assert producer._pipeline is not None
    assert len(producer._pipeline.shapes) <= 256
    assert len(events_in(redis, keys, None)) == 800


def test_a_subclass_of_str_is_an_event_type(valkey_url: str, redis: Redis, keys: Keys) -> None:
    """Such as an enum's member."""
    import enum

    class Kind(enum.StrEnum):
        TEXT = "text_generation"

    birdfeed.configure(redis_url=valkey_url)
    for _ in range(2):
        birdfeed.track_event(EventType(Kind.TEXT), {"model": "m"})
        birdfeed.flush()
    assert len(events_in(redis, keys)) == 2


def test_a_dict_that_another_thread_changes_is_still_taken(valkey_url: str) -> None:
    """Reading it fails in the middle; a copy is made in one step."""

    class Changing(dict[str, Any]):
        failed = False

        def items(self) -> Any:
            if not Changing.failed:
                Changing.failed = True
                raise RuntimeError("dictionary changed size during iteration")
            return super().items()

    birdfeed.configure(redis_url=valkey_url)
    track()
    birdfeed.track_event(EventType("text_generation"), Changing(model="m"))

    assert birdfeed.stats().dropped == {}
    assert birdfeed.stats().tracked == 2


def test_a_hook_and_credentials_are_set_by_configure(redis: Redis, valkey_url: str, keys: Keys) -> None:
    """User name and password are requested for each new connection."""
    asked: list[int] = []

    def credentials() -> tuple[str, str]:
        asked.append(1)
        return "app", "rotated"

    redis.execute_command("ACL", "SETUSER", "app", "on", ">rotated", "~*", "&*", "+@all")
    try:
        birdfeed.configure(redis_url=valkey_url, credentials=credentials, before_send=lambda event: event)
        track()
        assert birdfeed.flush() is True
        assert len(events_in(redis, keys)) == 1
        assert asked
        # The old password is revoked and the connection cut: the next one requests new credentials.
        redis.execute_command("ACL", "SETUSER", "app", "resetpass", ">rotated")
        redis.execute_command("CLIENT", "KILL", "USER", "app")
        track()
        assert birdfeed.flush() is True
        eventually(lambda: len(events_in(redis, keys)) == 2, what="the second event is in Redis")
        assert len(asked) > 1
    finally:
        redis.execute_command("ACL", "DELUSER", "app")


def test_hundreds_of_threads_track_concurrently(valkey_url: str, redis: Redis, keys: Keys) -> None:
    """From the first event on, each is in Redis once."""
    os.environ["BIRDFEED_REDIS_URL"] = valkey_url
    try:
        threads = [threading.Thread(target=track, args=(20,)) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert birdfeed.flush() is True
    finally:
        del os.environ["BIRDFEED_REDIS_URL"]

    ids = [event["event_id"] for event in events_in(redis, keys)]
    assert len(ids) == len(set(ids)) == 4_000
    assert birdfeed.stats().tracked == 4_000


def test_the_public_interface_is_small_and_complete() -> None:
    """At most forty lines, and every name in __all__ exists."""
    lines = Path(birdfeed.__file__).read_text().splitlines()

    assert len(lines) <= 40
    assert all(hasattr(birdfeed, name) for name in birdfeed.__all__)
    assert sorted(birdfeed.__all__) == birdfeed.__all__


def test_every_setting_is_described() -> None:
    """The reference of settings is generated from these."""
    undescribed = [name for name, field in ProducerSettings.model_fields.items() if not field.description]

    assert undescribed == []


def test_a_url_that_cannot_be_read_turns_telemetry_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every event is counted, nothing is kept, and neither flush nor close reports success."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "redis://:secret@host:port/0")
    track(3)

    assert birdfeed.stats().state == "off"
    assert "BIRDFEED_REDIS_URL: the port in the Redis URL is not a number" in caplog.text
    assert "secret" not in caplog.text
    assert birdfeed.stats().dropped == {"misconfigured": 3}
    assert (birdfeed.stats().tracked, birdfeed.stats().buffered) == (3, 0)
    assert birdfeed.flush() is False
    assert birdfeed.close() is False
    with pytest.raises(birdfeed.ConfigurationError, match="BIRDFEED_REDIS_URL"):
        birdfeed.start()


def test_a_url_that_redis_py_refuses_turns_telemetry_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The flusher finds that out; each event is counted once, among the tracked and the dropped ones."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "redis://127.0.0.1:1/0?socket_timeout=soon")
    track(3)

    eventually(lambda: birdfeed.stats().dropped.get("misconfigured") == 3, what="the events are dropped")
    track(1)
    assert birdfeed.stats().dropped == {"misconfigured": 4}
    assert birdfeed.stats().tracked == 4


@pytest.mark.parametrize("enabled", [True, False])
def test_start_imports_what_the_flusher_needs(enabled: bool) -> None:
    """All of it, so that a server that forks right after meets no thread in the middle of an import; nothing if off."""
    code = """
import sys, birdfeed
on = sys.argv[1] == "True"
birdfeed.configure(redis_url="redis://127.0.0.1:1/0", spool_bytes=0, close_timeout=0.1, enabled=on)
birdfeed.start()
needed = {"redis": "Redis", "birdfeed.delivery.factory": "assemble"}
print([hasattr(sys.modules.get(name), last) for name, last in needed.items()])
"""
    env = {"PYTHONPATH": ":".join(sys.path), "PYTHONWARNINGS": "ignore"}
    run = [sys.executable, "-c", code, str(enabled)]
    assert subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout == f"{[enabled] * 2}\n"


def test_an_event_of_another_librarys_fork_hook() -> None:
    """The hook runs in the child before birdfeed's own; its event belongs to the child, as later ones do."""
    code = """
import os
os.register_at_fork(after_in_child=lambda: birdfeed.track_event("text_generation", {"model": "m"}))
import birdfeed
birdfeed.configure(redis_url="redis://127.0.0.1:1/0", spool_bytes=0, flush_interval=60, close_timeout=0.1)
birdfeed.track_event("text_generation", {"model": "m"})
if child := os.fork():
    os.waitpid(child, 0)
else:
    birdfeed.track_event("text_generation", {"model": "m"})
    print(birdfeed.stats().tracked, flush=True)
os._exit(0)
"""
    env = {"PYTHONPATH": ":".join(sys.path), "PYTHONWARNINGS": "ignore"}
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout == "2\n"
