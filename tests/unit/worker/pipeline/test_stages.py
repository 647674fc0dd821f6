"""A delivery's stages together: users are looked up once, and an event on which our code fails affects no other."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.rows import Enriched
from birdfeed_schemas.wire.envelope import Header
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.query import dead_letters_of
from birdfeed_worker.model import Dead, Item
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.pipeline import delivery as module
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.delivery import LATELY, Delivery
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.settle import Totals
from birdfeed_worker.pricing.book.reload import BookSource
from redis import Redis

from tests.support.events import NOON, envelope, text
from tests.support.worker.dead import accept
from tests.support.worker.delivering import delivery_of, reserve_all
from tests.support.worker.fake_store import FakeStore

TYPE = "text_generation"


class Service:
    """Knows every user's tier, and records the lookups."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked: list[set[str]] = []

    def recall(self, users: Collection[str]) -> Mapping[str, str] | None:
        return {user: self.known[user] for user in users} if set(users) <= self.known.keys() else None

    def look_up(self, users: Collection[str]) -> Mapping[str, str]:
        self.asked.append(set(users))
        self.known.update(dict.fromkeys(users, "seed"))
        return {user: self.known[user] for user in users}


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def enricher(service: Service) -> Enricher:
    return Enricher(BookSource(), service, extra_fields=frozenset(), keep_traceback=False)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def delivery(redis: Redis, keys: Keys, store: FakeStore, enricher: Enricher) -> Delivery:
    return replace(delivery_of(redis, keys, store), enricher=enricher)


def valid(*events: dict[str, Any]) -> list[tuple[Item, Any]]:
    made = []
    for data in events:
        sent = envelope(data, when=NOON)
        item = Item("j", Header(batch_id="b", event_type=TYPE, count=len(events)), b"", sent)
        made.append((item, registry()[TYPE].event.model_validate(data)))
    return made


def tiers(store: FakeStore) -> dict[str, str]:
    return {row["user"]: row["tier"] for row in store.rows["llm_events"]}


def test_unknown_users_are_looked_up_together(
    redis: Redis, keys: Keys, delivery: Delivery, service: Service, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all jobs, and not at all the next time."""
    monkeypatch.setattr("birdfeed_worker.pipeline.decode.CHUNK_EVENTS", 1)
    for user in ("u1", "u2", "u1"):
        accept(redis, keys, [envelope(text(user=user))])

    delivery.deliver(reserve_all(redis, keys))
    assert service.asked == [{"u1", "u2"}]
    assert tiers(store) == {"u1": "seed", "u2": "seed"}

    accept(redis, keys, [envelope(text(user="u2", request_id="again"))])
    delivery.deliver(reserve_all(redis, keys))
    assert service.asked == [{"u1", "u2"}]
    assert len(store.ids()) == 4
    assert read_ledger(redis, keys).balanced


def test_rows_with_known_tiers_do_not_wait_for_others(
    redis: Redis, keys: Keys, delivery: Delivery, service: Service, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of known users, and without a user, are made before the lookup."""
    monkeypatch.setattr("birdfeed_worker.pipeline.decode.CHUNK_EVENTS", 1)
    service.known["u1"] = "flower"
    made: list[str] = []
    real = Delivery._write

    def write(self: Delivery, event_type: Any, some: Any, *more: Any) -> None:
        made.extend(str(event.user) for _, event in some)
        if not service.asked:
            made.append("before asking")
        real(self, event_type, some, *more)

    monkeypatch.setattr(Delivery, "_write", write)
    for user in ("new", "u1", None):
        accept(redis, keys, [envelope(text(user=user))])

    delivery.deliver(reserve_all(redis, keys))

    assert made == ["u1", "before asking", "None", "before asking", "new"]
    assert len(store.ids()) == 3


def test_a_batch_without_users_makes_no_lookup(enricher: Enricher, service: Service) -> None:
    """Nor does one whose events have their tiers."""
    nobody = valid(text(), text(user="u1", tier="seed"), text(user=""))

    assert enricher.tiers_in_cache(nobody) == enricher.tiers(nobody) == {}
    enricher.enrich(registry()[TYPE], nobody, NOON)

    assert service.asked == []
    assert all(item.row for item, _ in nobody)


def test_given_tiers_are_used(enricher: Enricher, service: Service) -> None:
    """A user who isn't among them is not looked up."""
    made = valid(text(user="u1"), text(user="u2"))

    enricher.enrich(registry()[TYPE], made, NOON, {"u2": "nectar"})

    assert service.asked == []
    assert [b'"tier":"nectar"' in item.row for item, _ in made] == [False, True]
    enricher.enrich(registry()[TYPE], made, NOON)
    assert service.asked == [{"u1", "u2"}]


def fails_on(user: str) -> Any:
    """A row builder that raises for one user's events."""
    real = registry()[TYPE].build_row

    def build(enriched: Enriched) -> Any:
        if enriched.event.user == user:
            raise KeyError("a fault of ours, with the prompt in it")
        return real(enriched)

    return replace(registry()[TYPE], build_row=build)


def test_an_event_on_which_our_code_fails(enricher: Enricher) -> None:
    """It is dead-lettered with the kind of error; the others have their rows."""
    made = valid(text(user="u1"), text(user="bad"), text(user="u2"))

    enricher.enrich(fails_on("bad"), made, NOON)

    died = Dead("internal_error", "birdfeed's own code failed on this event: KeyError")
    assert [item.outcome for item, _ in made] == [None, died, None]
    assert [bool(item.row) for item, _ in made] == [True, False, True]
    assert [item.cost_status for item, _ in made] == ["priced", "", "priced"]


def test_it_is_not_sent(
    redis: Redis, keys: Keys, delivery: Delivery, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a dead letter, and the others are in the store; all are counted once."""
    accept(redis, keys, [envelope(text(user=user)) for user in ("u1", "bad", "u2")])
    monkeypatch.setattr(module, "registry", lambda: {TYPE: fails_on("bad")})

    totals = delivery.deliver(reserve_all(redis, keys))

    assert (totals.written, dict(totals.dead)) == (2, {"internal_error": 1})
    assert tiers(store).keys() == {"u1", "u2"}
    (letter,) = dead_letters_of(redis, keys)
    assert (letter.reason, letter.events) == ("internal_error", 1)
    assert read_ledger(redis, keys).balanced


class Ticks:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def timed(delivery: Delivery, ticks: Ticks) -> Delivery:
    return replace(delivery, clock=Clock(monotonic=ticks))


def test_what_a_delivery_counts(
    redis: Redis, keys: Keys, timed: Delivery, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its items, jobs and lost events, and the seconds it took."""
    counted: list[tuple[Any, ...]] = []
    delivery = replace(timed, counters=Counted(counted))  # type: ignore[arg-type]
    for _ in range(2):
        accept(redis, keys, [envelope(text()), envelope(text())])
    jobs = reserve_all(redis, keys)
    settle = delivery.settler.settle

    def settle_slowly(*given: Any) -> Totals:
        ticks.now += 2.5
        return replace(settle(*given), lost=3)

    monkeypatch.setattr(delivery.settler, "settle", settle_slowly)

    assert delivery.deliver(jobs) == Totals(written=4, lost=3)
    assert counted == [(4, 2, 3, 2.5)]


class Counted:
    """Records what is reported."""

    def __init__(self, told: list[tuple[Any, ...]]) -> None:
        self.told = told

    def count(self, counted: Any, jobs: int, lost: int, seconds: float) -> None:
        self.told.append((counted.total(), jobs, lost, seconds))


@pytest.mark.parametrize(
    ("before", "since", "dies"),
    [("written", 59.9, True), ("written", LATELY, False), ("dead", 1.0, False), ("", 1.0, False)],
)
def test_the_cause_of_a_failure(
    redis: Redis,
    keys: Keys,
    timed: Delivery,
    ticks: Ticks,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
    since: float,
    dies: bool,
) -> None:
    """The job, if rows of its type were written recently; otherwise the cause is unknown, and the job waits."""
    if before:
        accept(redis, keys, [envelope(text() if before == "written" else {"usage": 1})])
        timed.deliver(reserve_all(redis, keys))
    ticks.now += since
    accept(redis, keys, [envelope(text()), envelope(text())])

    def fail(*given: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(module, "decode", fail)

    totals = timed.deliver(reserve_all(redis, keys))

    assert totals == Totals(dead=Counter(internal_error=2) if dies else Counter())
    assert redis.zcard(keys.scheduled) == (not dies)


def test_each_job_is_counted_if_all_failed_together(
    redis: Redis, keys: Keys, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The totals are those of all jobs, each delivered alone."""
    for _ in range(3):
        accept(redis, keys, [envelope(text()), envelope(text())])
    jobs = reserve_all(redis, keys)
    real = decode

    def fails_together(some: Any, *more: Any) -> Any:
        if len(some) > 1:
            raise RuntimeError("a fault of ours")
        return real(some, *more)

    monkeypatch.setattr(module, "decode", fails_together)

    assert delivery.deliver(jobs) == Totals(written=6)


@pytest.mark.parametrize("short", [True, False, None])
def test_which_rows_a_table_takes(
    redis: Redis, keys: Keys, delivery: Delivery, store: FakeStore, short: bool | None
) -> None:
    """Short ones if it accepts them, decided for each data source; without an answer, whole ones."""
    asked: list[str] = []

    class Layouts:
        def is_short(self, datasource: str) -> bool:
            asked.append(datasource)
            return bool(short)

    layouts: Any = None if short is None else Layouts()
    accept(redis, keys, [envelope(text())])

    replace(delivery, layouts=layouts).deliver(reserve_all(redis, keys))

    ((row,),) = store.rows.values()
    (whole,) = valid(text())
    delivery.enricher.enrich(registry()[TYPE], [whole], NOON, {}, short=bool(short))
    assert row.keys() == orjson.loads(whole[0].row).keys()
    assert asked == ([] if short is None else ["llm_events"])


def test_the_source_of_a_row_is_released(
    redis: Redis, keys: Keys, delivery: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery has thousands of events: once their rows are made, nothing else of them is kept."""
    accept(redis, keys, [envelope(text())])
    made: list[Item] = []
    real = decode

    def decode_and_keep(*given: Any) -> Any:
        decoded = real(*given)
        made.extend(decoded.items)
        return decoded

    monkeypatch.setattr(module, "decode", decode_and_keep)
    delivery.deliver(reserve_all(redis, keys))

    (item,) = made
    assert item.envelope is not None
    assert (item.event, item.envelope.data) == (None, {})
    assert item.event_id


def test_the_source_of_a_tier(enricher: Enricher, service: Service) -> None:
    """The event's own has priority over the service's; without a user no lookup is used."""
    made = valid(text(user="u1", tier="seed"), text(user="u1"), text(user="u2"), text())

    enricher.enrich(registry()[TYPE], made, NOON, {"u1": "nectar", "": "flower"})

    tiers = [orjson.loads(item.row).get("tier", "unknown") for item, _ in made]
    assert tiers == ["seed", "nectar", "unknown", "anonymous"]
