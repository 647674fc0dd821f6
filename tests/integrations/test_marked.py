"""Markers go into each SDK's integration, and no event has one; each filter is needed for that."""

from typing import Any

import birdfeed.logging_once
import pytest
from birdfeed.testing import capture

from tests.support.producer.marked_sdks import CALLS, CONTROL, Marks

# Imports every SDK, LiteLLM among them, which takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

MARKS = Marks(
    prompt="zqPrompt with zqProse",
    person="zqPerson",
    chat="zqChat",
    key="sk-zqKey0123456789",
    file="zqFile",
)


def hunted(name: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The markers in the events of a library's calls, and in what birdfeed logs."""
    caplog.clear()
    birdfeed.logging_once.forget()
    with (
        capture(user_hmac_key="k", hmac_fields="user,username,chat_id") as events,
        caplog.at_level("DEBUG", "birdfeed"),
    ):
        CALLS[name](MARKS, lambda: len(events))
    found = repr(events) + "".join(record.getMessage() for record in caplog.records if record.name == "birdfeed")
    assert CONTROL in found
    return [name for name, mark in vars(MARKS).items() if any(word in found for word in mark.split(" with "))]


@pytest.mark.parametrize("name", CALLS)
def test_no_event_has_a_marker(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Of prompts, answers, tools, files, keys, headers, errors, spans; persons and chats are hashed."""
    assert hunted(name, caplog) == []


ENCODING = "birdfeed.encoding"
#: Filter → its replacement, and the marker that is then in the events of some library's calls.
FILTERS: dict[str, tuple[dict[str, Any], str]] = {
    "names in usage": ({f"{ENCODING}.usage.name_is_good": lambda name: True}, "prompt"),
    "text in usage": ({f"{ENCODING}.usage._word": lambda name, text, walk: text}, "prompt"),
    "persons and chats": ({f"{ENCODING}.encoder.pseudonym": lambda key, person: person}, "person"),
    "an error's type and code": ({f"{ENCODING}.redact._NAME": bool}, "prompt"),
    "an SDK's error": ({f"{ENCODING}.redact._answered": lambda error: False}, "prompt"),
    "LiteLLM's message": ({"birdfeed.integrations.litellm.AnswerText": str}, "prompt"),
    "a span's message": ({"birdfeed.integrations.opentelemetry.AnswerText": str}, "file"),
    "what LiteLLM's log tells": ({"birdfeed.integrations.litellm.error_location": str}, "prompt"),
    "what a span's log tells": ({"birdfeed.integrations.opentelemetry.error_location": str}, "prompt"),
}


@pytest.mark.parametrize("off", FILTERS)
def test_each_filter_is_needed(off: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With any one of them switched off, its marker is in an event."""
    instead, marker = FILTERS[off]
    for name in CALLS:  # all modules are loaded before anything is replaced
        hunted(name, caplog)
    for path, value in instead.items():
        monkeypatch.setattr(path, value)
    monkeypatch.setattr(f"{ENCODING}.usage.good_names", set())

    assert marker in {found for name in CALLS for found in hunted(name, caplog)}
