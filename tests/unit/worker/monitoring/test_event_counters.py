"""Counters of events, as alerts need them: they only grow, exist from the start, and are limited in number."""

import json
from collections import Counter

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.move import Mover, Step
from birdfeed_worker.dead_letters.query import letters_of
from birdfeed_worker.model import Written
from birdfeed_worker.monitoring.ledger import totals_of
from birdfeed_worker.monitoring.metrics import METRICS
from birdfeed_worker.monitoring.minutes import DEAD_REASONS, DROP_REASONS
from birdfeed_worker.monitoring.prometheus import MOST_HOSTS, expose, of_pool, of_queue
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from tests.support.worker.dead import bury, events, work

Found = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: bytes) -> Found:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_event_counters_only_grow(redis: Redis, keys: Keys) -> None:
    """A replay reduces the dead letters, not the count of all dead-lettered events; purged ones have their reason."""
    letter, mover = bury(redis, keys, events(3))[0], Mover(redis, keys)
    assert letter.batch is not None
    mover.back([Step(letter, {0: letter.batch.lines[0]}, "replay-1", letter.event_type)])
    before = parsed(expose(of_queue(redis, keys)))
    work(redis, keys, lambda item: Written())
    mover.purge([next(letters_of(redis, keys))])

    after = parsed(expose(of_queue(redis, keys)))

    def of(found: Found, kind: str, **labels: str) -> float:
        wanted = tuple(sorted({"event_type": "text_generation", **labels}.items()))
        return found[f"birdfeed_events_{kind}_total", wanted]

    assert of(before, "dead", reason="invalid") == of(after, "dead", reason="invalid") == 3
    assert (of(before, "written"), of(after, "written"), of(after, "accepted")) == (0, 1, 3)
    assert (of(before, "purged", reason="invalid"), of(after, "purged", reason="invalid")) == (0, 2)
    account = Counter({name: int(events) for name, events in redis.hgetall(keys.ledger).items()})
    assert account[b"dead:text_generation:invalid"] == 0


@pytest.mark.parametrize(
    ("counts", "totals"),
    [
        ({"dead:a:invalid": 2, "fell:dead:a:invalid": 5}, {("dead", "a", "invalid"): 7}),
        ({"accepted:a": 9, "fell:accepted:a": 1}, {("accepted", "a", ""): 10}),
        ({"fell:accepted:fell:a": 1, "accepted:fell:a": 2}, {("accepted", "fell:a", ""): 3}),
        (
            {"purged:a": 5, "purged_as:a:invalid": 3},
            {("purged", "a", ""): 2, ("purged", "a", "invalid"): 3},
        ),
        ({"dropped:a:closed": 4, "x:a": 1, "fell:x": 2}, {("dropped", "a", "closed"): 4}),
    ],
)
def test_totals_from_the_ledger(counts: dict[str, int], totals: dict[tuple[str, str, str], int]) -> None:
    """The present count plus all reductions."""
    assert totals_of(counts) == totals


def test_every_known_series_is_at_0_from_the_start(redis: Redis, keys: Keys) -> None:
    """An alert on an increase would miss a first loss that creates its series."""
    parts = of_pool({}, workers=0, ends=0)
    found = parsed(expose(of_queue(redis, keys), parts))

    def reasons(name: str) -> set[str]:
        return {dict(labels)["reason"] for sample, labels in found if sample == name}

    assert reasons("birdfeed_events_dead_total") == DEAD_REASONS | {"other"}
    assert reasons("birdfeed_events_dropped_total") == DROP_REASONS | {"other"}
    assert reasons("birdfeed_events_purged_total") == DEAD_REASONS | {"other", "missing"}
    counters = {metric.name for metric in METRICS if metric.kind == "counter"} - {"birdfeed_worker_ends_total"}
    assert {name for name in counters if not any(sample == name for sample, _ in found)} == set()
    assert {value for (name, _), value in found.items() if name in counters} == {0.0}


def test_many_hosts_are_one_series(redis: Redis, keys: Keys) -> None:
    """Pods change; the hosts with most events keep their names."""
    for number in range(MOST_HOSTS + 20):
        note = json.dumps({"events": 100 + number, "bytes": 10, "oldest_at": 5.0 + number})
        redis.hset(keys.birdfeed("spools"), f"pod-{number:03}", note)

    found = parsed(expose(of_queue(redis, keys)))

    spooled = {
        dict(labels)["host"]: value for (name, labels), value in found.items() if name.endswith("spooled_events")
    }
    assert len(spooled) == MOST_HOSTS + 1
    assert spooled["other"] == sum(100 + number for number in range(20))
    assert found["birdfeed_spooled_bytes", (("host", "other"),)] == 200
    oldest = {name: found["birdfeed_spooled_oldest_seconds", (("host", name),)] for name in ("other", "pod-020")}
    assert oldest["other"] - oldest["pod-020"] == pytest.approx(20.0, abs=0.01)
