"""The store's columns, checked again while workers run."""

import logging
from collections.abc import Iterator

import httpx
import pytest
from birdfeed_schemas.datafiles import columns_of, datasources
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.schema_compare import Mismatch, in_one_line
from birdfeed_worker.tinybird.schema_state import SchemaWatch, read_mismatches
from redis import Redis

from tests.support.wait import eventually


class Workspace:
    """Answers with its columns."""

    def __init__(self) -> None:
        self.types = {name: {one.name: one.type for one in columns_of(name)} for name in datasources()}
        self.status = 200
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        name = next((one for one in self.types if one in request.content.decode()), "")
        meta = [{"name": column, "type": type_} for column, type_ in self.types.get(name, {}).items()]
        return httpx.Response(self.status if name else 404, json={"meta": meta, "data": []})


@pytest.fixture
def workspace() -> Workspace:
    return Workspace()


@pytest.fixture
def watch(workspace: Workspace, redis: Redis, keys: Keys) -> Iterator[SchemaWatch]:
    tinybird = Tinybird("https://x", "append", "reader", transport=httpx.MockTransport(workspace))
    watch = SchemaWatch(tinybird, redis, keys, 600.0)
    yield watch
    watch.end()


TIER = "llm_events.tier is missing: $.tier would not be stored"


def test_a_dropped_column_is_found_and_logged_once(
    workspace: Workspace, watch: SchemaWatch, redis: Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once; in status while it is missing."""
    caplog.set_level(logging.INFO, logger="birdfeed_worker")

    def look() -> tuple[str, ...]:
        redis.delete(keys.birdfeed("schema-watch"))
        watch.look()
        return read_mismatches(redis, keys)

    assert (look(), caplog.messages) == ((), [])
    dropped = workspace.types["llm_events"].pop("tier")
    assert (look(), look()) == ((TIER,), (TIER,))
    workspace.types["llm_events"]["tier"] = dropped
    assert (look(), look()) == ((), ())

    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [f"the data sources don't match: {TIER} (`birdfeed tinybird check` shows all)"]
    assert caplog.messages[-1] == "the data sources match again"


def test_it_checks_repeatedly(workspace: Workspace, redis: Redis, keys: Keys) -> None:
    """Until it is stopped."""
    tinybird = Tinybird("https://x", "append", "reader", transport=httpx.MockTransport(workspace))
    watch = SchemaWatch(tinybird, redis, keys, 0.05)
    thread = watch.start()
    eventually(lambda: workspace.asked > 8, what="it looked, and looked again")
    watch.end()
    thread.join(60)
    assert not thread.is_alive()


def test_a_failed_check_keeps_the_last_result(
    workspace: Workspace, watch: SchemaWatch, redis: Redis, keys: Keys
) -> None:
    """Without an answer nothing is known about the columns."""
    workspace.types["llm_events"].pop("tier")
    watch.look()
    workspace.status = 503
    redis.delete(keys.birdfeed("schema-watch"))
    watch.look()

    assert read_mismatches(redis, keys) == (TIER,)


def test_one_launcher_checks_for_all(workspace: Workspace, redis: Redis, keys: Keys) -> None:
    """The free plan answers 1,000 queries a day."""
    tinybird = Tinybird("https://x", "append", "reader", transport=httpx.MockTransport(workspace))
    for _ in range(5):
        SchemaWatch(tinybird, redis, keys, 600.0).look()

    assert workspace.asked == 2 * len(datasources())


def test_known_differences_of_the_template_are_not_reported(watch: SchemaWatch, redis: Redis, keys: Keys) -> None:
    """Tinybird's template and its narrow columns: logged at the start, and status can be healthy."""
    watch.note([Mismatch("llm_events", "", "template", "is"), Mismatch("llm_events", "cost", "narrow_type", "is")])

    assert read_mismatches(redis, keys) == ()


@pytest.mark.parametrize("junk", [b"\xff", b"{", b'{"a":1}', b"5"])
def test_junk_is_ignored(redis: Redis, keys: Keys, junk: bytes) -> None:
    """Whatever wrote it."""
    redis.set(keys.birdfeed("schema"), junk)

    assert read_mismatches(redis, keys) == ()


def test_forty_mismatches_are_one_line() -> None:
    """With the name of the first."""
    line = in_one_line([f"llm_events.c{number} is missing" for number in range(40)])

    assert line.count("\n") == 0
    assert "c2 is missing; and 37 more" in line
