"""Rows are short once the store's answer shows that its table accepts them, and no delivery waits for that."""

import threading
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from birdfeed_schemas.datafiles import columns_of, former_columns
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.query import dead_letters_of
from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.decide import Answer
from birdfeed_worker.tinybird.row_layout import ASK_AGAIN, LOOK_AGAIN, RowLayouts
from redis import Redis

from tests.support.events import enqueue, envelope, text
from tests.support.wait import eventually
from tests.support.worker.delivering import delivery_of, reserve_all
from tests.support.worker.fake_store import FakeStore

PRESENT = {column.name: column.type for column in columns_of("llm_events")}
FORMER = PRESENT | {column.name: column.type for column in former_columns("llm_events")}


class Store(FakeStore):
    """A store whose columns can be exchanged, can't be read for a while, and may be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, str] | None = PRESENT
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.known: dict[str, dict[str, str]] = {}

    def columns(self, datasource: str, *, again: bool = False) -> dict[str, str]:
        self.asked += 1
        assert self.answers.wait(30)
        if self.live is None:
            raise QueryError(503, "away")
        self.known[datasource] = self.live
        return self.live

    def known_columns(self, datasource: str) -> dict[str, str] | None:  # type: ignore[override]
        return self.known.get(datasource)

    def forget_columns(self, datasource: str) -> None:
        self.known.pop(datasource, None)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def now() -> list[float]:
    return [1_000.0]


@pytest.fixture
def layouts(store: Store, now: list[float]) -> RowLayouts:
    return RowLayouts(store, Clock(monotonic=lambda: now[0]))


def asked(store: Store, layouts: RowLayouts, times: int) -> Callable[[], bool]:
    """Wait until deliveries have caused that many queries; there is no new one while a query's thread runs."""
    return lambda: not layouts.is_short("llm_events") and store.asked == times


def test_whole_rows_until_the_store_has_answered(store: Store, layouts: RowLayouts) -> None:
    """One query, for which no delivery waits."""
    store.answers.clear()

    assert not any(layouts.is_short("llm_events") for _ in range(100))

    store.answers.set()
    eventually(lambda: layouts.is_short("llm_events"), what="short rows")
    assert store.asked == 1


def test_a_table_is_checked_again(store: Store, layouts: RowLayouts, now: list[float]) -> None:
    """A former table is replaced by the present one while the worker runs."""
    store.live = FORMER
    layouts.is_short("llm_events")
    eventually(lambda: "llm_events" in store.known, what="the first answer")
    store.live = PRESENT

    assert not layouts.is_short("llm_events")
    now[0] += LOOK_AGAIN
    eventually(lambda: layouts.is_short("llm_events"), what="short rows")
    assert store.asked == 2


def test_after_forget_the_columns_are_queried_again(store: Store, layouts: RowLayouts, now: list[float]) -> None:
    """Rows are whole meanwhile; a store that can't answer is queried once a minute."""
    layouts.is_short("llm_events")
    eventually(lambda: layouts.is_short("llm_events"), what="short rows")
    store.live = None
    store.forget_columns("llm_events")
    now[0] += ASK_AGAIN

    assert not any(layouts.is_short("llm_events") for _ in range(9))
    eventually(asked(store, layouts, 2), what="the second question")
    now[0] += ASK_AGAIN - 1
    assert not layouts.is_short("llm_events")
    store.live = FORMER
    now[0] += 1
    eventually(asked(store, layouts, 3), what="the third question")
    assert not layouts.is_short("llm_events")


def test_there_is_no_query_without_need(store: Store, layouts: RowLayouts) -> None:
    """Other data sources have one kind of rows; and without a read token there can be none."""
    assert not layouts.is_short("image_events")
    store.readable = False
    assert not layouts.is_short("llm_events")
    assert store.asked == 0


def test_rows_follow_the_table(redis: Redis, keys: Keys, store: Store, layouts: RowLayouts) -> None:
    """Whole until it is known, then short; whole again after the first quarantine when a deployment is reverted."""
    delivery = delivery_of(redis, keys, store, layouts=layouts)

    def sent() -> dict[str, Any]:
        enqueue(redis, keys, [envelope(text())])
        delivery.deliver(reserve_all(redis, keys))
        return orjson.loads(store.bodies[-1])  # type: ignore[no-any-return]

    def needs_message_id(rows: list[dict[str, Any]]) -> Answer | None:
        if "message_id" in rows[0]:
            return None
        store.quarantine["llm_events"] = {rows[0]["event_id"]: "it has no default"}
        return Answer(status=200, successful=0, quarantined=1)

    assert sent().keys() >= {"message_id", "event_type", "cost"}
    eventually(lambda: "llm_events" in store.known, what="the columns")
    assert sent().keys().isdisjoint({"message_id", "event_type", "cost"})

    store.live = FORMER
    store.rules.append(needs_message_id)
    assert "message_id" not in sent()
    assert [letter.reason for letter in dead_letters_of(redis, keys)] == ["quarantined"]
    eventually(lambda: store.known.get("llm_events") == FORMER, what="the columns of the table that is back")
    assert "message_id" in sent()
    assert len(store.ids()) == 3
