"""The stages of a delivery together: users are asked about once, and an event that our code fails on costs no other."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import pytest
from birdfeed_schemas.registry import registry
from birdfeed_schemas.rows import Enriched
from birdfeed_schemas.wire.envelope import Header
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import dead_letters_of
from birdfeed_worker.model import Dead, Item
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.pipeline import delivery as module
from birdfeed_worker.pipeline.delivery import Delivery
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pricing.book.reload import BookSource
from redis import Redis

from tests.support.events import NOON, envelope, text
from tests.support.worker.dead import accept
from tests.support.worker.delivering import delivery_of, reserve_all
from tests.support.worker.fake_store import FakeStore

TYPE = "text_generation"


class Service:
    """Knows everybody's tier, and remembers whom it was asked about."""

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


def test_users_nobody_remembers_are_asked_about_together(
    redis: Redis, keys: Keys, delivery: Delivery, service: Service, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all jobs, and next time not at all."""
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


def test_tiers_at_hand_do_not_wait_for_others(
    redis: Redis, keys: Keys, delivery: Delivery, service: Service, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of known users, and of none, are made before anybody is asked about."""
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


def test_a_batch_without_users_asks_nobody(enricher: Enricher, service: Service) -> None:
    """Nor does one whose events say their tiers."""
    nobody = valid(text(), text(user="u1", tier="seed"), text(user=""))

    assert enricher.tiers_in_cache(nobody) == enricher.tiers(nobody) == {}
    enricher.enrich(registry()[TYPE], nobody, NOON)

    assert service.asked == []
    assert all(item.row for item, _ in nobody)


def test_tiers_that_are_given_are_taken(enricher: Enricher, service: Service) -> None:
    """Also none: who isn't among them is not asked about."""
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


def test_an_event_that_our_code_fails_on(enricher: Enricher) -> None:
    """It dies, and says of what kind the error was; its neighbours have their rows."""
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
