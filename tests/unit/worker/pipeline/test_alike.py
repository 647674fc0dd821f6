"""Rows of events that are similar to earlier ones equal the rows they get alone.

And different events are recognised.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.row_models import OWN_FIELDS, LlmEventRow, OwnPart
from birdfeed_schemas.wire.envelope import Header, encode_batch
from birdfeed_worker.model import Item, ReservedJob
from birdfeed_worker.pipeline import alike
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pricing.book.fallback import GenaiPrices
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.queue.codec import pack
from birdfeed_worker.tiers.lookup import NoTiers
from hypothesis import given
from hypothesis import strategies as st

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
TYPE = "text_generation"
USAGE = '{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"cached_tokens":%d,"reasoning_tokens":%d}'
ID, WHEN = "019afc3e-5a3c-7d10-8000-%012d", "2026-11-23T12:00:00Z"
WORDS = ("", "a", "ünï", "x" * 512)
WHENS = ("2026-11-23T11:59:58.5Z", "2026-11-23T11:59:59+02:00", "2025-01-01T00:00:00Z", 1763899198)

usages = st.tuples(*(st.integers(0, 9) | st.sampled_from([0, 10**15]) for _ in range(4))).map(
    lambda n: USAGE % (n[0] + n[2], n[1] + n[3], sum(n), n[2], n[3])
)
#: Fields of single events, and shared fields; few values, so that most events are similar to another.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from(
        ["gpt-4.1-nano", "openai", "gpt-4o", "sonar-reasoning", "claude-sonnet-4-5", "gemini-2.5-pro"]
    ),
    "model_used": st.sampled_from(["gpt-4.1-nano-2025-04-14", "gpt-4o-mini", "unheard-of"]),
    "provider": st.sampled_from(["openai", "perplexity", "azure-openai"]),
    "tier": st.sampled_from(["seed", " "]),
    "environment": st.sampled_from(["", "production"]),
    "sample_rate": st.sampled_from([0.5, 1]),
    "status": st.sampled_from(["success", "error"]),
    "error": st.sampled_from(["boom", {"type": "T"}]),
    "cost": st.sampled_from([0, 0.25]),
    "service_tier": st.sampled_from(["batch", "default"]),
    "moderation": st.sampled_from([{"hate": {"filtered": True}}, {"hate": {"filtered": False}}, {"score": 0.5}, {}]),
    "start_time": st.sampled_from(WHENS),
    "end_time": st.sampled_from(WHENS),
    "duration": st.sampled_from([0, 1.5, 1e11]),
    **dict.fromkeys(("stream", "cache_hit"), st.booleans()),
    **dict.fromkeys(sorted(OWN_FIELDS - {"usage", "start_time", "end_time", "duration"}), st.sampled_from(WORDS)),
}


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line of an event that is similar to many others."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=6, unique=True))
    data = {"model": "gpt-4.1-nano", **{name: draw(FIELDS[name]) for name in names}}
    usage = draw(usages | st.sampled_from(['{"input_tokens":4}', '{"prompt_tokens":2,"service_tier":"batch"}', "null"]))
    when = (NOON + timedelta(hours=draw(st.integers(0, 2)))).isoformat().replace("+00:00", "Z")
    more = draw(st.sampled_from(["", ',"dropped_fields":3', ',"truncated":2']))
    event_id = ID % draw(st.integers(0, 99))
    inner = orjson.dumps(data).decode()[:-1]
    return f'{{"event_id":"{event_id}","occurred_at":"{when}","data":{inner},"usage":{usage}}}{more}}}'


class Tiers(NoTiers):
    """Tiers for some users."""

    def recall(self, users: Any) -> dict[str, str]:
        return {user: "looked-up" for user in users if user == "a"}

    look_up = recall


def an_enricher(books: BookSource) -> Enricher:
    return Enricher(books, Tiers(), extra_fields=frozenset({"colour"}), keep_traceback=True)


@pytest.fixture(scope="module")
def books() -> BookSource:
    return BookSource(fallback=GenaiPrices())


def items_of(*some: str, replay_id: str = "") -> list[Item]:
    header = Header(batch_id="b", event_type=TYPE, count=len(some), replay_id=replay_id)
    packed = encode_batch(header, [one.encode() for one in some])
    job = ReservedJob(
        id="j", execution="e", data=pack(packed), event_type=TYPE, events=1, size=1, attempts=1, first_reserved=0
    )
    return decode([job], extra=frozenset({"colour"})).items


def rows(enricher: Enricher, items: list[Item], *, short: bool = False) -> list[tuple[dict[str, Any], str]]:
    enricher.enrich(registry()[TYPE], validate(TYPE, items), NOON, short=short)
    return [(orjson.loads(item.row), item.cost_status) for item in items]


@pytest.mark.heavy
@given(st.lists(lines(), min_size=1, max_size=8), st.booleans(), st.sampled_from(["", "r1"]))
def test_an_event_gets_the_row_it_gets_alone(books: BookSource, some: list[str], short: bool, replay_id: str) -> None:
    """With any events before it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(alike.Alike, "learn", lambda *_: False)
        expected = rows(an_enricher(books), items_of(*some, replay_id=replay_id), short=short)
    enricher = an_enricher(books)
    for _ in range(2):
        assert rows(enricher, items_of(*some, replay_id=replay_id), short=short) == expected


def plain(number: int, **more: Any) -> str:
    """A line of an ordinary event; three of them in a row are similar."""
    data = {"model": "gpt-4.1-nano", "user": f"u{number}", "request_id": str(number), **more}
    usage = USAGE % (number + 1, number + 1, 2 * number + 2, 1, 1)
    inner = orjson.dumps(data).decode()[:-1]
    return f'{{"event_id":"{ID % number}","occurred_at":"{WHEN}","data":{inner},"usage":{usage}}}}}'


@pytest.mark.parametrize("more", [{}, {"moderation": {"hate": {"filtered": False, "severity": "safe"}}}])
def test_similar_events_need_no_row_builder(
    books: BookSource, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """Otherwise the test above would compare one path with itself."""
    enricher, built = an_enricher(books), list[Item]()
    real = enricher._enriched

    def counted(event_type: Any, item: Item, *rest: Any) -> Any:
        built.append(item)
        return real(event_type, item, *rest)

    monkeypatch.setattr(enricher, "_enriched", counted)

    rows(enricher, items_of(*(plain(number, **more) for number in range(20))))

    assert 1 <= len(built) <= 2, "the first, whose usage's shape may be new, and the first of its kind"


def test_the_cache_is_bounded(books: BookSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if a handler sets a new environment each time."""
    monkeypatch.setattr(alike, "MAX_KINDS", 3)
    enricher = an_enricher(books)

    found = rows(enricher, items_of(*(plain(n, environment=f"e{n}") for n in range(20))))

    assert [row["proxy_metadata"]["environment"] for row, _ in found] == [f"e{n}" for n in range(20)]
    assert 0 < len(enricher._alike._kinds) <= 3


def test_a_new_price_book_is_used_immediately(tmp_path: Path) -> None:
    """What was cached with the old one is dropped."""
    book, now = tmp_path / "prices.toml", [0.0]
    text = '[[model]]\nname = "own"\nunit = "token"\nprice = {{ prompt_text = {0}, completion_text = {0} }}\n'
    book.write_text(text.format("1"))
    enricher = an_enricher(BookSource(book, lambda: now[0]))
    some = [plain(n, model="own") for n in range(3)]
    before = [row["cost_exact"] for row, _ in rows(enricher, items_of(*some))]
    book.write_text(text.format("25.5"))
    now[0] = 60.0

    after = [row["cost_exact"] for row, _ in rows(enricher, items_of(*some))]

    assert (before[2], after[2]) == ("0.000006000000", "0.000153000000")


def test_an_events_own_fields_are_fields_of_the_row() -> None:
    """Of the same types, with the same defaults, and each of the row's fields is in one of the two groups."""
    whole = {one.name: one for one in msgspec.structs.fields(LlmEventRow)}
    for one in msgspec.structs.fields(OwnPart):
        assert (one.type, one.default) == (whole[one.name].type, whole[one.name].default), one.name
        assert one.default is whole[one.name].default, one.name
    assert registry()[TYPE].event.model_fields.keys() >= OWN_FIELDS
