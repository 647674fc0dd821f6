"""birdfeed.testing: a program's events in its own tests."""

import subprocess
import sys
import threading

import birdfeed
import pytest
from birdfeed import EventType, api, pytest_plugin
from birdfeed.testing import Captured, capture
from pydantic import ValidationError

#: By name, so that the tests also run where birdfeed is not installed and pytest does not know its plugin.
birdfeed_events = pytest_plugin.birdfeed_events


def test_capture_shows_what_would_be_sent() -> None:
    """Filtered, renamed and hashed; nothing is sent."""
    with capture(user_hmac_key="key", extra_fields="team") as events:
        birdfeed.track_event(
            EventType("text_generation"), {"modelRequested": "m", "user": "u", "prompt": "p", "team": "blue"}
        )
        birdfeed.track_event("image_generation", {"model": "flux"})
        birdfeed.track_event(EventType("text_generation"), None)  # type: ignore[call-overload]
        assert birdfeed.flush() is True
        birdfeed.close()

    text, image = events
    assert text.data == {"model": "m", "user": text.data["user"], "team": "blue"}
    assert text.data["user"] != "u"
    assert text.dropped_fields == 1
    assert events.of("image_generation") == [image]
    assert events[:1] == [text]
    assert events.dropped == {"bad_call": 1}
    with pytest.raises(AssertionError, match="2 events"):
        _ = events.only
    events.clear()
    assert len(events) == 0


def test_capture_uses_the_programs_own_configuration() -> None:
    """The program under test calls configure() with its hook."""
    with capture() as events:
        birdfeed.configure(before_send=lambda event: {**event, "event_data": {"model": "changed"}})
        birdfeed.track_event("text_generation", {"model": "m"})

    assert events.only.data == {"model": "changed"}


def test_captured_events_can_be_validated() -> None:
    """As in the worker."""
    with capture() as events:
        birdfeed.track_event("text_generation", {"model": "m"})
        birdfeed.track_event(EventType("text_generation"), {"model": 5})
        birdfeed.track_event(EventType("nobody_knows"), {"model": "m"})

    assert events[0].validated().model == "m"
    with pytest.raises(ValidationError):
        events[1].validated()
    with pytest.raises(KeyError):
        events[2].validated()


def test_a_misspelt_field_is_named() -> None:
    """In the captured event and by validated(), with the probable name; not fields that are dropped on purpose."""
    wrong = {"model": "m", "usages": {}, "imagesize": "1x1", "prompt": "p", "team": "blue", "x y": 1}
    with capture(extra_fields="team") as events:
        birdfeed.track_event(EventType("image_generation"), wrong)
        birdfeed.track_event(EventType("text_generation"), {"model": "m", "messages": [], "content": "c"})

    misspelt, right = events
    assert misspelt.unknown_fields == ("usages", "imagesize")
    assert misspelt.dropped_fields == 4
    with pytest.raises(ValueError, match=r"did you mean usage\?; .*imagesize.*did you mean image_size\?"):
        misspelt.validated()
    assert right.unknown_fields == ()
    assert right.validated().model == "m"


def test_the_end_of_a_capture() -> None:
    """The previous producer is restored, also after an error."""
    before = api.current_client()
    with pytest.raises(RuntimeError), capture():
        raise RuntimeError
    assert api.current_client() is before


def test_the_fixture(birdfeed_events: Captured) -> None:
    """Pytest gets it from the plugin."""
    birdfeed.track_event("text_generation", {"model": "m"})

    assert birdfeed_events.only.data == {"model": "m"}


def test_capture_refuses_what_production_refuses() -> None:
    """A bad call starts nothing."""
    with capture() as events:
        for event_type in ("x" * 101, "", "a\nb", None):
            birdfeed.track_event(EventType(event_type), {"model": "a"})  # type: ignore[arg-type]
        assert len(events) == 0
        assert events.dropped == {"bad_call": 4}
        assert not any(thread.name == "birdfeed-flusher" for thread in threading.enumerate())


def test_a_process_that_exits_while_a_thread_captures() -> None:
    """The block is never left; nothing is sent, and nothing is logged about it."""
    code = """
import threading
from birdfeed.testing import capture
capturing = threading.Event()
def wait():
    with capture():
        import birdfeed
        birdfeed.track_event("text_generation", {"model": "m"})
        capturing.set()
        threading.Event().wait()
threading.Thread(target=wait, daemon=True).start()
capturing.wait()
"""
    env = {"PYTHONPATH": ":".join(sys.path), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
