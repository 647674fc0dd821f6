"""What may leave the process: a marker is put into every field, and is found only where it may be."""

import logging
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any

import birdfeed
import birdfeed.testing
import orjson
import pytest
from birdfeed.encoding.batch import line_of
from birdfeed.encoding.encoder import Encoder, Policy
from birdfeed.encoding.redact import error_of, host_of, redacted
from birdfeed.stats import Counters
from birdfeed_schemas.event_structs import STRUCTS
from birdfeed_schemas.fields import SPELLINGS
from pydantic import ValidationError

from tests.support.producer.markers import FIELDS, HIDDEN, MARKER, chained, hidden_in, leaks


def sent(data: dict[str, Any], event_type: str = "text_generation", **policy: Any) -> str:
    """The line of an event as text."""
    chosen = Policy(**policy)
    done = Encoder(chosen, Counters()).encode(
        event_type, data, chosen.shape(SPELLINGS[event_type], STRUCTS[event_type])
    )
    assert done is not None
    return line_of(done).decode()


@pytest.mark.parametrize(("event_type", "field"), FIELDS)
def test_a_prompt_is_sent_in_no_field(event_type: str, field: str) -> None:
    """In no field of any type, however it is hidden; only a text field's own text is sent, which is not a prompt."""
    for value in hidden_in(field):
        for data in ({"model": "m", field: value}, {"model": "m", "prompt": MARKER, field: value}):
            assert not leaks(sent(data, event_type))


def found_by(hunt: Callable[[], Iterator[str]]) -> bool:
    """Whether the marker is in a line from one of the functions below."""
    return any(leaks(line) for line in hunt())


def hunt_fields() -> Iterator[str]:
    """Lines of every field with the marker, hidden in every way."""
    for event_type, field in FIELDS:
        for value in hidden_in(field):
            yield sent({"model": "m", field: value}, event_type)


def hunt_fields_strictly() -> Iterator[str]:
    """The same with a second value that JSON refuses, so that each value is checked."""
    for event_type, field in FIELDS:
        for value in hidden_in(field):
            yield sent({"model": "\ud800", field: value}, event_type)


def hunt_hooks() -> Iterator[str]:
    """Lines of events into which a hook put the marker."""

    def hook(event: dict[str, Any]) -> dict[str, Any]:
        event["event_data"] |= {
            "messages": MARKER,
            "usage": {"prompt_tokens": 1, "text": MARKER},
            "model": {"a": MARKER},
        }
        return event

    yield sent({"model": "m"}, before_send=hook)


def hunt_persons() -> Iterator[str]:
    """Lines of events with the marker as the user's name, set by the program or by a hook."""
    yield sent({"user": MARKER, "username": MARKER}, hmac_key=b"k")
    yield sent(
        {"model": "m"},
        hmac_key=b"k",
        before_send=lambda event: {**event, "event_data": {"user": MARKER, "username": MARKER}},
    )


def hunt_tracebacks() -> Iterator[str]:
    """Lines of errors with the marker: a traceback contains messages, causes and notes."""
    yield sent({"error": chained()})
    yield sent({"error": {"type": "E", "traceback": MARKER}})


HUNTS = (hunt_fields, hunt_fields_strictly, hunt_hooks, hunt_persons, hunt_tracebacks)


@pytest.mark.parametrize("hunt", HUNTS)
def test_the_marker_is_found_in_no_line(hunt: Callable[[], Iterator[str]]) -> None:
    """With all filters on."""
    assert not found_by(hunt)


class Anything:
    """A set of words or names that contains everything."""

    def __contains__(self, word: object) -> bool:
        return True


ENCODING = "birdfeed.encoding"
#: Path of a filter → its replacement.
FILTERS: dict[str, dict[str, Any]] = {
    "the one conversion that lets pass": {f"{ENCODING}.encoder._convert": lambda data, struct: data},
    "the same, of what is left": {f"{ENCODING}.shape.Shape._fits": lambda shape, data: True},
    "the same, of one field": {f"{ENCODING}.shape._is_of": lambda value, field: True},
    "the names of fields": {
        f"{ENCODING}.shape.Shape._named": lambda shape, data, walk: dict(data),
        f"{ENCODING}.shape.Shape._fits": lambda shape, data: False,
    },
    "what a field may hold": {f"{ENCODING}.shape.Shape._field": lambda shape, field, value, walk: walk.json(value)},
    "text where none belongs": {f"{ENCODING}.shape._TEXT_FIELDS": Anything()},
    "usage": {f"{ENCODING}.shape.usage_of": lambda value, walk: walk.json(value)},
    "names in usage": {f"{ENCODING}.usage.name_is_good": lambda name: True},
    "text in usage": {f"{ENCODING}.usage._count": lambda plain, walk: plain, f"{ENCODING}.usage.is_number": bool},
    "words in usage": {f"{ENCODING}.usage._is_word": bool},
    "moderation": {f"{ENCODING}.shape.moderation_of": lambda value, walk: walk.json(value)},
    "names in moderation": {f"{ENCODING}.usage.MODERATION_NAMES": Anything()},
    "words in moderation": {f"{ENCODING}.usage.MODERATION_WORDS": Anything()},
    "error": {f"{ENCODING}.shape.error_of": lambda value, keep, walk, **_: walk.json(str(value))},
    "an error's message": {f"{ENCODING}.redact.redacted": lambda message: message},
    "an error's type and code": {f"{ENCODING}.redact._NAME": bool},
    "an error's traceback": {
        f"{ENCODING}.shape.error_of": lambda value, keep, keep_traceback, walk: error_of(
            value, keep, keep_traceback=True, walk=walk
        )
    },
    "referrer": {f"{ENCODING}.shape.host_of": lambda referrer: referrer},
    "what a hook answers": {f"{ENCODING}.encoder.Encoder._ask": lambda _, hook, kind, data, *__: hook(
        {"event_type": kind, "event_data": dict(data)}
    )["event_data"]},
    "persons": {f"{ENCODING}.encoder.pseudonym": lambda key, person: person},
}  # fmt: skip


@pytest.mark.parametrize("off", FILTERS)
def test_each_filter_is_needed(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any one of them switched off, the marker is found."""
    monkeypatch.setattr(f"{ENCODING}.shape._hosts", {})  # nothing of it is cached afterwards
    for path, instead in FILTERS[off].items():
        monkeypatch.setattr(path, instead)
    assert any(found_by(hunt) for hunt in HUNTS)


@pytest.mark.parametrize(
    ("keep", "message"),
    [("full", f"bad '{MARKER}' from a@b.example"), ("redacted", "bad '…' from …"), ("none", None)],
)
def test_an_errors_message_is_sent_as_the_setting_says(keep: Any, message: str | None) -> None:
    """`BIRDFEED_ERROR_MESSAGE`."""
    line = orjson.loads(sent({"error": ValueError(f"bad '{MARKER}' from a@b.example")}, error_message=keep))

    assert line["data"]["error"].get("message") == message
    assert line["data"]["error"]["type"] == "ValueError"


@pytest.mark.parametrize(
    ("message", "left"),
    [
        ("rate limit reached", "rate limit reached"),
        ("can't reach the model, it's away", "can't reach the model, it's away"),
        ("got 'it\\'s a secret' here", "got '…' here"),
        ("never 'closed at the end", "never '…'"),
        ('{"error": {"message": "text"}}', '{"…": {"…": …'),
        ("see https://h.example/docs?key=abc#x now", "see https://h.example/docs?… now"),
        ("user alice@example.org not found", "user … not found"),
        ("call +1 555 123-4567 back", "call … back"),
        ("context of 128000 tokens", "context of 128000 tokens"),
        ("key sk-abcdefghijkl is wrong", "key … is wrong"),
        ("Your prompt: do this\nand that", "Your prompt: …\nand that"),
        ("quoted “like this” or `that`", "quoted … or …"),
    ],
)
def test_what_remains_of_a_message(message: str, left: str) -> None:
    """Enough to find the cause."""
    assert redacted(message) == left


def test_redacting_takes_time_proportional_to_a_message() -> None:
    """For any text: it is cut before, and no pattern backtracks repeatedly."""
    for text in ("'" * 10**6, "a@" * 10**6, '"\\' * 10**6, "1 " * 10**6, "x" * 10**7, "prompt" * 10**6, "://" * 10**6):
        assert len(redacted(text)) <= 8_000


@pytest.mark.parametrize(
    ("referrer", "host"),
    [
        ("https://example.com/chat/secret?q=1", "example.com"),
        ("https://user:pw@example.com:8443/", "example.com:8443"),
        ("//cdn.example.com/x", "cdn.example.com"),
        ("example.com/path", "example.com"),
        ("localhost:3000", "localhost:3000"),
        ("android-app://com.example.app/x", "com.example.app"),
        ("my prompt", None),
        ("secret", None),
        ("", None),
    ],
)
def test_a_referrer_is_its_host(referrer: str, host: str | None) -> None:
    """Or nothing, if it has none."""
    assert host_of(referrer) == host


def test_the_whole_referrer_if_configured() -> None:
    """`BIRDFEED_REFERRER=path`."""
    assert "/chat/1" in sent({"referrer": "https://example.com/chat/1"}, referrer_path=True)


def test_any_field_can_be_hashed() -> None:
    """`BIRDFEED_HMAC_FIELDS`."""
    line = sent({"user": "u", "organization": "Acme"}, hmac_key=b"k", hmac_fields=frozenset({"organization"}))

    assert '"user":"u"' in line
    assert "Acme" not in line


class Modality(StrEnum):
    """As in google-genai."""

    AUDIO = "AUDIO"
    SECRET = MARKER


@pytest.mark.parametrize(
    ("usage", "arrives"),
    [
        ({"prompt_tokens": "12"}, {"prompt_tokens": "12"}),
        ({"prompt_tokens": "many"}, {"prompt_tokens": "(text)"}),
        ({"service_tier": "batch", "speed": "fast"}, {"service_tier": "batch", "speed": "fast"}),
        ({"is_byok": True, "cost": 0.1}, {"is_byok": True, "cost": 0.1}),
        ({"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7, "x": "y"}]},
         {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}]}),
        ({"promptTokensDetails": [{"modality": Modality.AUDIO, "tokenCount": 7}], "trafficType": Modality.SECRET},
         {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 7}]}),
        ({"id": "x", "object": "chat.completion", "usage": {"prompt_tokens": 1}}, {"prompt_tokens": 1}),
        ({"usage": {"prompt_tokens": 1}, "service_tier": "flex"}, {"prompt_tokens": 1, "service_tier": "flex"}),
        ({"prompt_tokens": 1, "details": {}}, {"prompt_tokens": 1, "details": {}}),
        ({}, {}),
        (None, None),
    ],
)  # fmt: skip
def test_usage_keeps_numbers_and_short_words(usage: Any, arrives: Any) -> None:
    """Text in place of a count is only marked as present."""
    assert orjson.loads(sent({"model": "m", "usage": usage}))["data"]["usage"] == arrives


def test_the_log_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """For any fault of an event."""
    with birdfeed.testing.capture(), caplog.at_level(logging.DEBUG):
        for make in HIDDEN.values():
            birdfeed.track_event("text_generation", make())
            birdfeed.track_event("text_generation", {"model": "m", "start_time": make(), "usage": make()})
    assert MARKER not in caplog.text


def test_the_worker_rejects_text_in_a_field_that_is_not_for_text() -> None:
    """The worker reports that the field was wrong; its value is not sent."""
    line = orjson.loads(sent({"model": "m", "duration": MARKER, "start_time": MARKER}))

    assert line["data"] == {"model": "m", "duration": "(text)", "start_time": "(text)"}
    assert line["dropped_fields"] == 2
    with birdfeed.testing.capture() as events:
        birdfeed.track_event(birdfeed.EventType("text_generation"), {"model": "m", "duration": MARKER})
    with pytest.raises(ValidationError, match="duration"):
        events.only.validated()


@pytest.mark.parametrize("where", ["response", "body", "details"])
@pytest.mark.parametrize(("keep", "message"), [("full", f"about {MARKER}"), ("redacted", None), ("none", None)])
def test_a_servers_message_is_sent_completely_or_not_at_all(where: str, keep: Any, message: str | None) -> None:
    """Providers repeat prompts in their messages, unquoted."""
    error = ValueError(f"about {MARKER}")
    setattr(error, where, {"error": MARKER})
    line = orjson.loads(sent({"error": error}, error_message=keep))

    assert line["data"]["error"].get("message") == message
    assert line["data"]["error"]["type"] == "ValueError"
