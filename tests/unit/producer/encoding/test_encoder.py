"""An event's line in the wire format, with only the fields that may leave the process."""

import hashlib
import hmac
from collections import OrderedDict
from datetime import datetime
from typing import Any

import orjson
import pytest
from birdfeed.encoding.batch import line_of
from birdfeed.encoding.encoder import Encoder, Event, Policy, now_text
from birdfeed.encoding.redact import pseudonym
from birdfeed.stats import Counters
from birdfeed_schemas.event_structs import UsageData
from birdfeed_schemas.fields import SPELLINGS
from birdfeed_schemas.wire.envelope import Envelope, encode_event, format_time
from hypothesis import given
from hypothesis import strategies as st

TEXT = SPELLINGS["text_generation"]
#: Fields for any short text, which are sent unchanged.
TEXT_FIELDS = {
    "model",
    "model_used",
    "provider",
    "user",
    "username",
    "tier",
    "request_id",
    "environment",
    "service_tier",
}


def encode(data: Any, counters: Counters | None = None, **policy: Any) -> dict[str, Any] | None:
    chosen = Policy(**policy)
    done = Encoder(chosen, counters or Counters()).encode("text_generation", data, chosen.shape(TEXT))
    return None if done is None else dict(orjson.loads(line_of(done)), dropped=done[2])


def test_a_line_is_what_the_schemas_would_write() -> None:
    """The producer's own code and the schemas' give the same bytes, dropped fields included."""
    data = {"model": "m", "usage": {"prompt_tokens": 3}, "prompt": "never", "userId": "u"}
    done = Encoder(Policy(), Counters()).encode("text_generation", data, Policy().shape(TEXT))
    assert done is not None
    written = line_of(done)
    line = orjson.loads(written)

    expected = Envelope(
        event_id=line["event_id"],
        event_type="text_generation",
        occurred_at=datetime.fromisoformat(line["occurred_at"]),
        data={"model": "m", "usage": {"prompt_tokens": 3}, "user": "u"},
        dropped_fields=1,
    )
    assert (done[0], written, done[2]) == ("text_generation", encode_event(expected), 1)


def test_the_time_is_written_as_the_schemas_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Microseconds always have six digits, also at a full second."""
    for nanoseconds in (1_700_000_000_000_000_000, 1_700_000_000_000_001_999, 1_700_000_059_999_999_999):
        monkeypatch.setattr("birdfeed.encoding.encoder.time.time_ns", lambda at=nanoseconds: at)
        written = now_text()
        assert format_time(datetime.fromisoformat(written)) == written
        assert datetime.fromisoformat(written).timestamp() == pytest.approx(nanoseconds / 1e9, abs=2e-6)


@pytest.mark.parametrize(
    ("data", "stored", "dropped"),
    [
        ({"model": "m"}, {"model": "m"}, 0),
        ({"modelRequested": "m", "userId": 7}, {"model": "m", "user": 7}, 0),
        ({"userId": "other", "user": "own"}, {"user": "own"}, 0),
        ({"user": "own", "userId": "other"}, {"user": "own"}, 0),
        ({"user": None, "userId": "other"}, {"user": None}, 0),
        ({"model": "m", "messages": [1], "prompt": "p"}, {"model": "m"}, 2),
        ({"model": "m", 5: "no name"}, {"model": "m"}, 1),
        ({}, {}, 0),
    ],
)
def test_names_are_filtered_and_renamed(data: Any, stored: dict[str, Any], dropped: int) -> None:
    """The field's own name has priority over another spelling, in either order; unknown names are counted."""
    line = encode(data)

    assert line is not None
    assert line["data"] == stored
    assert line["dropped"] == dropped
    assert line.get("dropped_fields", 0) == dropped


def test_a_lines_own_bytes_count_towards_the_bound() -> None:
    """An event's line is refused if it is one byte too long."""
    done = Encoder(Policy(), Counters()).encode("text_generation", {"model": "m"}, Policy().shape(TEXT))
    assert done is not None
    size = len(line_of(done))

    assert encode({"model": "m"}, max_event_bytes=size) is not None
    assert encode({"model": "m"}, max_event_bytes=size - 1) is None


def test_what_was_passed_is_not_changed() -> None:
    """The handler's own dict is unchanged, error and user included."""
    data = {"model": "m", "user": "u", "error": ValueError("x")}
    before = dict(data)

    encode(data, hmac_key=b"k", before_send=lambda event: event)

    assert data == before


def test_other_mappings_are_accepted() -> None:
    """Any mapping."""
    line = encode(OrderedDict(model="m"))

    assert line is not None
    assert line["data"] == {"model": "m"}


@pytest.mark.parametrize("data", [["model"], "model", 5, None, {"model"}])
def test_data_that_is_not_a_mapping_raises(data: Any) -> None:
    """The caller counts it as a bad call; it must never become an event."""
    with pytest.raises(TypeError):
        encode(data)


def test_allowed_extra_fields_are_sent() -> None:
    """Names that the operator allows are sent with the models' own."""
    line = encode({"model": "m", "team": "blue", "prompt": "p"}, extra=frozenset({"team"}))

    assert line is not None
    assert line["data"] == {"model": "m", "team": "blue"}
    assert line["dropped_fields"] == 1


def test_an_unknown_type_keeps_only_known_names() -> None:
    """The names of all types; the event will be a dead letter, which must not have a prompt either."""
    done = Encoder(Policy(), Counters()).encode("video", {"videoSeconds": 2, "prompt": "p"}, Policy().shape(None))

    assert done is not None
    assert orjson.loads(line_of(done))["data"] == {"video_seconds": 2}


def test_an_event_over_the_limit_is_refused_alone() -> None:
    """Other events are not affected."""
    counters = Counters()

    long = dict.fromkeys(("model", "model_used", "provider"), "m" * 500)
    assert encode(long, counters, max_event_bytes=1000) is None
    assert encode({**long, "prompt": 1}, counters, max_event_bytes=1000) is None
    assert encode({"model": "m"}, counters, max_event_bytes=1000) is not None
    assert counters.dropped() == {"too_large": 2}


def test_users_are_hashed_with_a_key() -> None:
    """user and username are sent as HMAC-SHA256, cut to 128 bits; a number is hashed as its digits."""
    line = encode({"model": "m", "user": "u1", "username": 17, "tier": "seed"}, hmac_key=b"key")

    assert line is not None
    digest = hmac.new(b"key", b"u1", hashlib.sha256).hexdigest()[:32]
    assert line["data"] == {"model": "m", "user": digest, "username": pseudonym(b"key", "17"), "tier": "seed"}


def test_a_missing_user_stays_missing_with_a_key() -> None:
    """Anonymous events must not all get the same user."""
    line = encode({"model": "m", "user": None}, hmac_key=b"key")

    assert line is not None
    assert line["data"]["user"] is None


def test_the_hook_gets_a_copy_and_its_result_is_sent() -> None:
    """It can change the copy in any way; names outside the allow-list are not sent."""
    usage = {"prompt_tokens": 1}

    def hook(event: Event) -> Event:
        assert event["event_type"] == "text_generation"
        event["event_data"]["usage"]["prompt_tokens"] = 2
        event["event_data"]["prompt"] = "smuggled"
        return event

    line = encode({"model": "m", "usage": usage}, before_send=hook)

    assert line is not None
    assert line["data"] == {"model": "m", "usage": {"prompt_tokens": 2}}
    assert usage == {"prompt_tokens": 1}


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        (lambda event: None, "before_send"),
        (lambda event: 1 / 0, "before_send_failed"),
        (lambda event: {}, "before_send_failed"),
        (lambda event: "text", "before_send_failed"),
        (lambda event: {"event_data": 5}, "before_send_failed"),
    ],
)
def test_a_hook_that_drops_or_fails_is_counted(hook: Any, reason: str) -> None:
    """A hook is for privacy: if it fails, the event is not sent."""
    counters = Counters()

    assert encode({"model": "m"}, counters, before_send=hook) is None
    assert counters.dropped() == {reason: 1}


def test_users_are_hashed_after_the_hook() -> None:
    """A hook can't send a raw user in any field."""
    seen: list[Any] = []

    def hook(event: Event) -> Event:
        seen.append(event["event_data"]["user"])
        event["event_data"]["username"] = "Ann"
        return event

    line = encode({"model": "m", "user": "u1"}, hmac_key=b"key", before_send=hook)

    assert line is not None
    assert seen == ["u1"]
    assert line["data"] == {"model": "m", "user": pseudonym(b"key", "u1"), "username": pseudonym(b"key", "Ann")}


def test_tracebacks_are_sent_only_if_configured() -> None:
    """An exception and a dict with a traceback are treated alike."""
    try:
        raise ValueError("broken")
    except ValueError as caught:
        error = caught
    written = {"type": "E", "message": "m", "traceback": "secret"}

    quiet = [encode({"model": "m", "error": one}) for one in (error, written)]
    loud = [encode({"model": "m", "error": one}, keep_traceback=True) for one in (error, written)]

    assert [line and line["data"]["error"] for line in quiet] == [
        {"type": "ValueError", "message": "broken"},
        {"type": "E", "message": "m"},
    ]
    assert all(line and line["data"]["error"]["traceback"] for line in loud)


@given(
    st.dictionaries(
        st.sampled_from([name for name, field in sorted(TEXT.items()) if field in TEXT_FIELDS]),
        st.none() | st.integers(-9, 9) | st.text(st.characters(codec="utf-8"), max_size=20),
    )
)
def test_every_accepted_spelling_is_sent_under_the_fields_name(data: dict[str, Any]) -> None:
    """With any mixture of spellings each field is sent once, with the value of its own name if that was given."""
    line = encode(data)

    assert line is not None
    expected = {TEXT[name] for name in data}
    assert set(line["data"]) == expected
    for name, value in data.items():
        if TEXT[name] == name:
            assert line["data"][name] == value
    assert line["dropped"] == 0


class Name(str):
    """A subclass of str as a name."""


@pytest.mark.parametrize("usage", [{"prompt_tokens": 1}, {"prompt_tokens": 1, "service_tier": "flex", "new_tokens": 2}])
def test_names_of_a_texts_subclass_are_names(usage: dict[str, Any]) -> None:
    """They are written to JSON as text."""
    line = encode({Name("model"): "m", "usage": {Name(name): count for name, count in usage.items()}})

    assert line is not None
    assert (line["data"], line["dropped"]) == ({"model": "m", "usage": usage}, 0)


@given(
    st.dictionaries(st.sampled_from([*UsageData.__struct_encode_fields__, "new_tokens"]), st.none() | st.integers(0))
)
def test_known_usages_are_sent_like_others(usage: dict[str, int | None]) -> None:
    """A usage that is encoded by its struct is sent like one that is checked name by name."""
    flat = {name: count for name, count in usage.items() if "etails" not in name and name != "service_tier"}
    line = encode({"model": "m", "usage": flat})

    assert line is not None
    assert line["data"]["usage"] == {
        name: count if count is None or count < 2**64 else str(count) for name, count in flat.items()
    }
