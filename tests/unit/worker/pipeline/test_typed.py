"""Two ways to read an event, by struct and by model: they accept the same events, refuse the others with the same
reasons, and make the same rows.
"""

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from birdfeed_schemas.events import MAX_TEXT
from birdfeed_schemas.registry import registry
from birdfeed_schemas.typed.lines import typed
from birdfeed_schemas.wire.envelope import Header, encode_batch
from birdfeed_worker.model import Item, ReservedJob
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.pricing.usage.known import KnownUsage
from birdfeed_worker.pricing.usage.raw import SHAPES
from birdfeed_worker.queue.codec import pack
from birdfeed_worker.tiers.lookup import NoTiers
from hypothesis import given
from hypothesis import strategies as st

from tests.support.events import text

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
ID = "019afc3e-5a3c-7d10-8000-000000000001"
#: Fields that the operator stores besides the models'; one has a name that no attribute can have.
EXTRA = frozenset({"colour", "x-shape"})
TYPES = ["text_generation", "image_generation"]

WORDS = ("", "a", "ünï", "  ", "seed", "12", "x" * MAX_TEXT, "x" * (MAX_TEXT + 1), "error", "1024x768")
words = st.sampled_from(WORDS)
NUMBERS = (
    *(0, 1, 17, -1, 2**63 - 1, 2**63, 2**64, 10**30, 0.0, 1.5, 2.0, 1e12, 1e13, 1e300),
    *(1_700_000_000, 1_700_000_000_123),
)
numbers = st.sampled_from(NUMBERS)
TIMES = (
    *("2026-11-23T11:59:58.5Z", "2026-11-23T11:59:58", "2026-11-23T13:59:58+02:00", "2026-11-23t11:59:58z"),
    *("2026-11-23T11:59:58.1234567Z", "2026-11-23", "20261123", "1763899198", "noon", "0001-01-01T00:00:00+02:00"),
    *("9999-12-31T23:59:59.9999999Z", "2026-11-23T11:59:60Z", "2026-11-23T11:59:58-00:00"),
)
times = st.sampled_from(TIMES)
counts = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cost", "odd key"]),
    numbers | st.none() | st.booleans() | words | st.dictionaries(st.sampled_from(["cached_tokens"]), numbers),
)
anything = words | numbers | st.none() | st.booleans() | st.lists(numbers, max_size=2) | counts
#: Values that are valid often enough for completely valid events.
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "model": words,
    "start_time": times | numbers,
    "end_time": times,
    "duration": numbers,
    "status": st.sampled_from(["success", "error", None]),
    "error": words | st.dictionaries(st.sampled_from(["type", "message", "code", "more"]), words | numbers),
    "cache_hit": st.booleans(),
    "stream": st.booleans(),
    "has_input_image": st.booleans(),
    "cost": numbers | st.just("0.25"),
    "video_seconds": numbers | st.just("2.5"),
    "audio_seconds": numbers,
    "num_images": numbers,
    "characters": numbers,
    "usage": counts,
    "moderation": st.sampled_from([{"hate": {"filtered": True, "severity": "high"}}, {}, None]),
}
OWN = sorted({name for kind in TYPES for name in registry()[kind].fields})
ALIASES = sorted({alias for kind in TYPES for aliases in registry()[kind].fields.values() for alias in aliases})


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Data of an event: valid, except for one or two fields."""
    names = draw(st.lists(st.sampled_from(OWN), max_size=8, unique=True))
    data = {"model": "gpt-4.1-nano", **{name: draw(LIKELY.get(name, words)) for name in names}}
    odd = st.sampled_from([*OWN, *ALIASES, *EXTRA, "prompt"])
    data.update({name: draw(anything) for name in draw(st.lists(odd, max_size=2))})
    return data


def line(data: str, event_id: str = ID, occurred_at: str = "2026-11-23T12:00:00.000000Z", more: str = "") -> str:
    """A line as a producer writes it, of data that is JSON text."""
    return f'{{"event_id":"{event_id}","occurred_at":"{occurred_at}","data":{data}{more}}}'


def job(event_type: str, *lines: str) -> ReservedJob:
    """A job with these lines."""
    header = Header(batch_id="b", event_type=event_type, count=len(lines))
    packed = encode_batch(header, [one.encode() for one in lines])
    return ReservedJob(
        id="j", execution="e", data=pack(packed), event_type=event_type, events=1, size=1, attempts=1, first_reserved=0
    )


@pytest.fixture(scope="module")
def enricher() -> Enricher:
    return Enricher(BookSource(), NoTiers(), extra_fields=EXTRA, keep_traceback=True)


def worked(enricher: Enricher, event_type: str, items: list[Item]) -> list[tuple[object, object, str]]:
    """The results of items: their outcome, their row, and its price."""
    enricher.enrich(registry()[event_type], validate(event_type, items), NOON)
    return [(item.outcome, orjson.loads(item.row) if item.row else None, item.cost_status) for item in items]


def both(enricher: Enricher, event_type: str, *lines: str) -> list[tuple[object, object, str]]:
    """The results of a job's events, both ways."""
    made = job(event_type, *lines)
    by_model = worked(enricher, event_type, decode([made]).items)
    by_struct = worked(enricher, event_type, decode([made], extra=EXTRA).items)
    for one, struct, model in zip(lines, by_struct, by_model, strict=True):
        assert struct == model, one
    return by_struct


@pytest.mark.heavy
@given(st.sampled_from(TYPES), st.lists(events(), min_size=1, max_size=4))
def test_both_ways_give_the_same(enricher: Enricher, event_type: str, several: list[dict[str, Any]]) -> None:
    """For any data of a handler, and with any other events in the job."""
    lines = [line(any_json(data)) for data in several]

    assert len(both(enricher, event_type, *lines)) == len(several)


@pytest.mark.parametrize("event_type", TYPES)
def test_every_field_with_every_kind_of_value(enricher: Enricher, event_type: str) -> None:
    """One field of an event at a time."""
    values: list[Any] = [
        *TIMES,
        *WORDS,
        *NUMBERS,
        None,
        True,
        [],
        {},
        {"hate": {"filtered": True}},
        {"message": 1, "type": None},
    ]
    data = [{"model": "m", name: value} for name in (*OWN, *ALIASES, *EXTRA) for value in values]
    found = both(enricher, event_type, *(line(any_json(one)) for one in data))

    assert {type(outcome).__name__ for outcome, _, _ in found} == {"NoneType", "Dead"}


@pytest.mark.parametrize("event_type", TYPES)
def test_whole_numbers_are_identifiers(enricher: Enricher, event_type: str) -> None:
    """Whole numbers of 64 bits don't take the slow path, also with texts in one job; longer ones and true do."""
    lines = [
        line('{"model":"m","user":17,"request_id":-3,"trace_id":9223372036854775807}'),
        line('{"model":"m","user":"u"}'),
        line('{"model":"m","user":9223372036854775808}'),
        line('{"model":"m","user":true}'),
    ]
    both(enricher, event_type, *lines)

    mixed = decode([job(event_type, *lines[:2])], extra=EXTRA).items
    odd = decode([job(event_type, *lines)], extra=EXTRA).items

    assert [type(item.envelope).__name__ for item in mixed] == ["Line", "Line"]
    assert [type(item.envelope).__name__ for item in odd] == ["Line", "Line", "Envelope", "Envelope"]
    rows = [row for _, row, _ in worked(enricher, event_type, mixed)]
    assert isinstance(rows[0], dict)
    assert (rows[0]["user"], rows[0]["request_id"], rows[0]["trace_id"]) == ("17", "-3", "9223372036854775807")


def any_json(data: dict[str, Any]) -> str:
    """JSON, also with integers beyond 64 bits, which other programs may send."""

    return json.dumps(data, ensure_ascii=False)


@pytest.mark.parametrize(
    "odd",
    [
        line('{"model":"m","usage":{"prompt_tokens":1e400}}'),
        line('{"model":"m","usage":{"prompt_tokens":%s}}' % ("9" * 400)),
        line('{"model":"m","usage":{"prompt_tokens":123456789012345678901234567890}}'),
        line('{"model":"m","usage":{"prompt_tokens":1,"prompt_tokens":2}}'),
        line('{"model":"m","model":"n","user":1,"user":"u"}'),
        line('{"model":"\\ud800"}'),
        line('{"model":"m","usage":null,"moderation":null,"colour":null}'),
        line('{"model":"m","usage":[1],"moderation":{"hate":{"score":%s}}}' % ("9" * 30)),
        line('{"model":"m","moderation":[]}'),
        line('{"model":"m","colour":%s,"x-shape":{"a":1.50}}' % ("9" * 30)),
        line('{"model":"m","usage":' + "[" * 1030 + "]" * 1030 + "}"),
        line('{"model":"m","duration":1e400}'),
        line('{"model":"m","extra_0":1}'),
        line('{"model": "m" , "usage": {"prompt_tokens": 5 }}'),
        line('{"model":"m"}', event_id=ID.upper()),
        line('{"model":"m"}', event_id=ID.replace("-", "")),
        line('{"model":"m"}', event_id=f"{ID}\\n"),
        line('{"model":"m"}', event_id="019afc3e5-a3c-7d10-8000-000000000001"),
        line('{"model":"m"}', event_id=ID[:-1] + "g"),
        line('{"model":"m"}', event_id=ID[:-1] + "é"),
        line('{"model":"m"}', occurred_at="2026-11-23T14:00:00.1234567+02:00"),
        line('{"model":"m"}', occurred_at="2026-11-23T12:00:00"),
        line('{"model":"m"}', occurred_at="1969-11-23T12:00:00Z"),
        line('{"model":"m"}', occurred_at="2200-01-01T00:00:00Z"),
        line('{"model":"m"}', more=',"event_type":"image_generation","version":7'),
        line('{"model":"m"}', more=',"dropped_fields":70000,"truncated":true'),
        line('{"model":"m"}', more=',"dropped_fields":3,"truncated":2'),
        line('{"model":"m"}', more=',"dropped_fields":1.0,"truncated":"2"'),
        line('{"model":"m"},{"model":"n"}'),
        line("[]"),
        "null",
        "{",
    ],
)
def test_odd_lines(enricher: Enricher, odd: str) -> None:
    """Lines that birdfeed didn't write affect at most their own event, and both ways in the same way."""
    fine = line('{"model":"m","start_time":1700000000,"status":"success"}')

    first, _, last = both(enricher, "text_generation", fine, odd, fine)
    assert first == last
    assert first[0] is None


def test_each_item_has_its_own_line() -> None:
    """Read in either way, although lines are cut only on demand."""
    lines = [line('{"model":"a"}'), line('{"model":"ünï"}'), line('{"model":"c","user":"u"}')]

    for extra in (None, EXTRA):
        for also in ([], ["{"], [""]):
            items = decode([job("text_generation", *lines, *also)], extra=extra).items
            assert [item.line.decode() for item in items] == [*lines, *filter(None, also)], (extra, also)


@pytest.mark.parametrize(
    "body",
    [
        "{A}{B}\n",
        "\n{A} {B}",
        "{A} {B}\n{C}\n",
        "{A}{half of B,\nrest of B}",
        "{A}\n{half of B,\nrest of B}{C}",
        "{A}\n\n{B}",
        "{A}\n \n{B}",
        "{A},{B}\n{C}",
        "{A}],[{B}",
        "\r\n{A}\r\n{B}\r\n",
    ],
)
def test_each_item_of_an_odd_body_has_its_own_line(body: str) -> None:
    """Values that share a line or take several: what is decoded from a line is what that line says."""
    whole = {name: line(json.dumps(text(request_id=name)), f"{ID[:-1]}{n}") for n, name in enumerate("ABC", 1)}
    body = body.replace("{half of B", whole["B"].partition(",")[0]).replace("rest of B}", whole["B"].partition(",")[2])
    for name, one in whole.items():
        body = body.replace(f"{{{name}}}", one)

    items = decode([job(TYPES[0], body)], extra=EXTRA).items

    assert [item.line.decode() for item in items] == [one for one in body.split("\n") if one]
    for item in items:
        if item.event is not None and item.envelope is not None:
            assert json.loads(item.line)["event_id"] == item.envelope.event_id
        else:
            with pytest.raises(ValueError, match=r"Expecting|Extra data"):
                json.loads(item.line)


def test_ordinary_events_take_the_fast_path() -> None:
    """Otherwise the rest of this file would compare one way with itself."""
    for kind, data in {
        "text_generation": text(start_time="2026-11-23T11:59:58Z", usage={"prompt_tokens": 1}, colour="red", cost=0.5),
        "image_generation": {"model": "m", "num_images": 2, "video_seconds": 1.5, "error": {"type": "T"}},
    }.items():
        made = decode([job(kind, line(orjson.dumps(data).decode()))], extra=EXTRA)
        assert [item.event is not None for item in made.items] == [True], kind


def test_every_field_of_a_model_is_in_its_struct() -> None:
    """So both read a field that is added to a model."""
    for kind in TYPES:
        model = registry()[kind].event
        reader = typed(kind, model)
        assert reader is not None
        read = reader.read_line(line('{"model":"m"}').encode()).data
        assert list(read.__struct_fields__) == list(model.model_fields)
        plain = model(model="m")
        assert {name: getattr(read, name) for name in model.model_fields} == plain.model_dump()
        assert (read.failed, read.is_text) == (plain.failed, plain.is_text)


SHAPES_SENT = (
    """{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":%d,
    "audio_tokens":null},"completion_tokens_details":{"reasoning_tokens":%d}}""",
    """{"input_tokens":%d,"output_tokens":%d,"cache_read_input_tokens":%d,"cache_creation_input_tokens":%d,
    "server_tool_use":{"web_search_requests":%d},"service_tier":"batch"}""",
    """{"promptTokenCount":%d,"candidatesTokenCount":%d,"totalTokenCount":%d,"thoughtsTokenCount":%d,"oddities":%d}""",
    """{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"cached_tokens_1":%d,"x":true,"cached_tokens":%d}""",
    """{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"cached_tokens":%d,"x":true,"cached_tokens_1":%d}""",
    """{"cache_creation":{"ephemeral_1h_input_tokens":%d,"ephemeral_5m_input_tokens":%d},"input_tokens":%d,
    "output_tokens":%d,"details":{"odd":%d}}""",
)


@pytest.mark.heavy
@given(st.lists(st.sampled_from(SHAPES_SENT), min_size=1, max_size=6), st.data())
def test_usages_of_known_shapes(enricher: Enricher, shapes: list[str], data: st.DataObject) -> None:
    """The first usage of a shape is read from plain objects, the next ones by a struct: also with other counts, and
    between other shapes.
    """
    counts = st.integers(0, 3_000) | st.sampled_from([2**63 - 1, 2**63, 10**25])
    lines = []
    for shape in shapes:
        first, second, third, *more = (data.draw(counts) for _ in range(5))
        total = first + second if data.draw(st.booleans()) else third
        usage = "".join(shape.split()) % (first, second, total, *more)
        provider = data.draw(st.sampled_from(["", "anthropic", "xai", "openai", "perplexity"]))
        lines.append(line(f'{{"model":"gpt-4.1-nano","provider":"{provider}","usage":{usage}}}'))

    both(enricher, "text_generation", *lines)


KINDS = (
    *("%d", "null", "true", '"text"', '"batch"', "{}", '{"audio_tokens":%d}', '{"k":{"l":%d}}', "[%d]", "1.5"),
    *("-%d", '"%d"'),
)


@pytest.fixture(autouse=True)
def no_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without remembered shapes: their number is bounded, and each test starts without any."""
    monkeypatch.setattr(SHAPES, "_shapes", {})


@pytest.mark.parametrize("kind", KINDS)
def test_usages_with_a_value_of_another_kind(enricher: Enricher, kind: str) -> None:
    """In place of each count of each shape, twice, as the second of a shape is read by a struct."""
    for shape in SHAPES_SENT:
        parts = "".join(shape.split()).split("%d")
        for place in range(1, len(parts)):
            sent = "%d".join(parts[:place]) + kind + "%d".join(parts[place:])
            lines = [sent % tuple(range(first, first + sent.count("%d"))) for first in (1, 2, 30)]
            both(enricher, "text_generation", *(line(f'{{"model":"gpt-4.1-nano","usage":{one}}}') for one in lines))


def test_a_known_usage_is_read_by_a_struct() -> None:
    """With any fields that the table reads."""
    details = {"cached_tokens": 4, "audio_tokens": None}
    usage = {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": details}
    usages = [orjson.dumps({**usage, "completion_tokens": count}) for count in (3, 44, 555)]
    first, *others = [SHAPES.read(one) for one in usages]
    assert isinstance(first, dict | KnownUsage)
    assert [type(one) for one in others] == [KnownUsage] * 2
    text = '{"prompt_tokens":10,"completion_tokens":COUNT,"prompt_tokens_details":{"cached_tokens":4}}'
    assert [one.text for one in others] == [text.replace("COUNT", str(count)) for count in (44, 555)]
