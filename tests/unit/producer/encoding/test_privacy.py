"""What may leave the process: a marker is put everywhere, and is found only where it may be."""

import logging
from collections.abc import Callable, Iterator
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import birdfeed
import birdfeed.testing
import orjson
import pytest
from birdfeed.encoding.encoder import Encoder, Policy
from birdfeed.encoding.redact import host_of, redacted
from birdfeed.encoding.shape import Shape
from birdfeed.stats import Counters
from birdfeed_schemas.event_structs import FIELD_TYPES, STRUCTS
from birdfeed_schemas.fields import SPELLINGS
from pydantic import BaseModel, ValidationError

#: Stands for a prompt: prose, as prompts are.
MARKER = "TOP secret prompt"
#: Fields that any short text may stand in; users may write what they like there, and it is sent.
TEXT = {field for field in FIELD_TYPES if field not in {
    *("start_time", "end_time", "duration", "status", "error", "referrer", "cache_hit", "cost", "usage", "stream"),
    *("moderation", "num_images", "has_input_image", "video_seconds", "audio_seconds"),
}}  # fmt: skip


def sent(data: dict[str, Any], event_type: str = "text_generation", **policy: Any) -> str:
    """The line of an event as text."""
    chosen = Policy(**policy)
    done = Encoder(chosen, Counters()).encode(
        event_type, data, chosen.shape(SPELLINGS[event_type], STRUCTS[event_type])
    )
    assert done is not None
    return done[1].decode()


def raised(make: Callable[[], Any]) -> BaseException:
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("it did not raise")


class Typed(BaseModel):
    number: int


def quoting() -> BaseException:
    """pydantic's error quotes its input."""
    return raised(lambda: Typed.model_validate({"number": MARKER}))


def chained() -> BaseException:
    def fail() -> None:
        try:
            raise ValueError(MARKER)
        except ValueError as cause:
            error = RuntimeError("it failed")
            error.add_note(MARKER)
            raise error from cause

    return raised(fail)


#: Ways to hide a marker in a value.
HIDDEN: dict[str, Callable[[], Any]] = {
    "as a key": lambda: {MARKER: 1},
    "as a value": lambda: {"prompt_tokens": MARKER, "a": MARKER},
    "as an attribute": lambda: SimpleNamespace(prompt_tokens=1, prompt=MARKER),
    "nested": lambda: {"a": {"b": {"c": {"d": MARKER}}}},
    "nested key": lambda: {"a": {"b": {MARKER: 1}}},
    "in a list": lambda: [MARKER, {"content": MARKER}],
    "in a tuple": lambda: (MARKER,),
    "in a set": lambda: {MARKER},
    "a whole response": lambda: {
        "id": MARKER,
        "choices": [{"message": {"role": "assistant", "content": MARKER}}],
        "usage": {"prompt_tokens": 3, "note": MARKER},
    },
    "an exception": lambda: ValueError(f"Your prompt: {MARKER}"),
    "an exception that quotes": lambda: ValueError(f"bad input '{MARKER}'"),
    "a cause and a note": chained,
    "pydantic's error": quoting,
    "as enumeration": lambda: {"service_tier": MARKER, "type": MARKER, "severity": MARKER, "modality": MARKER},
    "in moderation": lambda: {"hate": {"filtered": True, "severity": MARKER, "quote": MARKER}, "prompt": MARKER},
    "an error as a mapping": lambda: {
        "type": "bad_request", "message": f'rejected: "{MARKER}"', "body": {"prompt": MARKER}, "param": MARKER,
    },
    "a URL": lambda: f"https://host.example/{MARKER.replace(' ', '_')}?q={MARKER}",
    "as text": lambda: MARKER,
}  # fmt: skip


def hidden_in(field: str) -> Iterator[Any]:
    """Every value that hides the marker, but for text where a field is for text, as an error's own message is."""
    for name, make in HIDDEN.items():
        if not (field in TEXT | {"error"} and name in ("as text", "a URL")):
            yield make()


FIELDS = [(kind, field) for kind, struct in STRUCTS.items() for field in (*struct.__struct_fields__, "messages")]


def leaks(line: str) -> bool:
    return MARKER in line or MARKER.replace(" ", "_") in line


@pytest.mark.parametrize(("event_type", "field"), FIELDS)
def test_a_prompt_leaves_by_no_field(event_type: str, field: str) -> None:
    """By no field of any type, however it is hidden; only a text field's own text is sent, which is no prompt."""
    for value in hidden_in(field):
        for data in ({"model": "m", field: value}, {"model": "m", "prompt": MARKER, field: value}):
            assert not leaks(sent(data, event_type))


@pytest.mark.parametrize("off", ["usage", "moderation", "error", "referrer", "names", "scalars"])
def test_each_filter_is_needed(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any one of them switched off, the test above fails for some case."""
    original = Shape.__init__

    def without(shape: Shape, *args: Any, **kwargs: Any) -> None:
        original(shape, *args, **kwargs)
        if off in shape._rules:
            shape._rules[off] = lambda value, walk: walk.json(value)

    monkeypatch.setattr(Shape, "__init__", without)
    if off == "names":
        monkeypatch.setattr("birdfeed.encoding.usage.name_is_good", lambda name: True)
    if off == "scalars":
        monkeypatch.setattr(Shape, "_field", lambda shape, field, value, walk: walk.json(value))
    assert any(
        leaks(sent({"model": "m", field: value}, event_type))
        for event_type, field in FIELDS
        for value in hidden_in(field)
    )


def test_a_hook_can_let_nothing_more_out() -> None:
    """What it answers is filtered as what it was given."""

    def hook(event: dict[str, Any]) -> dict[str, Any]:
        event["event_data"] |= {
            "messages": MARKER,
            "usage": {"prompt_tokens": 1, "text": MARKER},
            "model": {"a": MARKER},
        }
        return event

    assert MARKER not in sent({"model": "m"}, before_send=hook)


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
def test_what_is_left_of_a_message(message: str, left: str) -> None:
    """Enough to know what went wrong."""
    assert redacted(message) == left


def test_redacting_takes_time_in_proportion_to_a_message() -> None:
    """Whatever stands in it: it is cut before, and no pattern tries again and again."""
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
    """Or nothing, where it names none."""
    assert host_of(referrer) == host


def test_the_whole_referrer_where_a_setting_says_so() -> None:
    """`BIRDFEED_REFERRER=path`."""
    assert "/chat/1" in sent({"referrer": "https://example.com/chat/1"}, referrer_path=True)


def test_any_field_can_be_hashed() -> None:
    """`BIRDFEED_HMAC_FIELDS`."""
    line = sent({"user": "u", "organization": "Acme"}, hmac_key=b"k", hmac_fields=frozenset({"organization"}))

    assert '"user":"u"' in line
    assert "Acme" not in line


class Modality(StrEnum):
    """As google-genai has it."""

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
    """And of text in a count's place, that there was some."""
    assert orjson.loads(sent({"model": "m", "usage": usage}))["data"]["usage"] == arrives


def test_the_log_quotes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with an event."""
    with birdfeed.testing.capture(), caplog.at_level(logging.DEBUG):
        for make in HIDDEN.values():
            birdfeed.track_event("text_generation", make())
            birdfeed.track_event("text_generation", {"model": "m", "start_time": make(), "usage": make()})
    assert MARKER not in caplog.text


def test_text_in_a_field_that_is_no_text_is_a_workers_affair() -> None:
    """The worker shows that the field was wrong; what stood there is not sent."""
    line = orjson.loads(sent({"model": "m", "duration": MARKER, "start_time": MARKER}))

    assert line["data"] == {"model": "m", "duration": "(text)", "start_time": "(text)"}
    assert line["dropped_fields"] == 2
    with birdfeed.testing.capture() as events:
        birdfeed.track_event("text_generation", {"model": "m", "duration": MARKER})
    with pytest.raises(ValidationError, match="duration"):
        events.only.validated()
