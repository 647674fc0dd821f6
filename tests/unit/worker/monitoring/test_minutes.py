"""Counts per minute: bounded in names and in time, and nothing is counted twice."""

from dataclasses import replace

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.model import Dead, Deferred, Outcome, Written, count_outcomes
from birdfeed_worker.monitoring.counters import Counters, Sampler
from birdfeed_worker.monitoring.metrics import Meter
from birdfeed_worker.monitoring.minutes import KEEP_SECONDS, count_changes, minute_key, read_minutes, total
from msgspec import structs
from redis import Redis

from tests.support.worker.dead import accept, events, work

NOW = 1_800_000_030.0


def test_what_is_settled_counts_in_its_minute(redis: Redis, keys: Keys) -> None:
    """By type, reason and cost status; jobs that wait again are not counted yet."""
    accept(redis, keys, events(6))
    items = work(redis, keys)
    outcomes: list[Outcome] = [
        Written(),
        Written(),
        Dead("invalid", "x"),
        Dead("made-up", "x"),
        Deferred(),
        Written(True),
    ]
    for item, outcome in zip(items, outcomes, strict=True):
        item.outcome, item.cost_status = outcome, "priced"
    clock = [NOW]
    counters = Counters(redis, keys, Meter(keys, "p"), Clock(time=lambda: clock[0]))
    counters.count(count_outcomes(items))
    clock[0] += 60
    counters.count(count_outcomes(items[:1]))
    counters.count(count_outcomes([]))

    before, last = read_minutes(redis, keys, NOW + 60, 2)
    assert before == {
        "written:text_generation": 3,
        "cost:priced": 3,
        "dead:text_generation:invalid": 1,
        "dead:text_generation:other": 1,
    }
    assert last == {"written:text_generation": 1, "cost:priced": 1}
    assert (total([before, last], "written"), total([before, last], "written", 1)) == (4, 1)
    assert total([before, last], "dead") == 2
    assert KEEP_SECONDS - 5 < redis.ttl(minute_key(keys, NOW)) <= KEEP_SECONDS


def test_made_up_names_are_one_field(redis: Redis, keys: Keys) -> None:
    """Otherwise many of them would fill Redis."""
    for name in ("a", "b", "c:d"):
        accept(redis, keys, [replace(one, event_type=name) for one in events(1)])
        redis.hincrby(keys.ledger, f"dropped:{name}:whatever-{name}", 2)
    items = work(redis, keys, lambda item: Dead("unknown_event_type", "x"))
    clock = Clock(time=lambda: NOW)
    Counters(redis, keys, Meter(keys, "p"), clock).count(count_outcomes(items))
    Sampler(redis, keys, clock).step()

    (minute,) = read_minutes(redis, keys, NOW, 1)
    assert minute == {"dead:other:unknown_event_type": 3, "accepted:other": 3, "dropped:other:other": 6}


def test_the_past_of_an_older_installation_is_not_counted_in_this_minute(redis: Redis, keys: Keys) -> None:
    """With a ledger of a million events, and no such counts yet."""
    redis.xadd(keys.birdfeed("samples"), {"accepted": 1_000_000})
    count_changes(redis, keys, {"accepted:text_generation": 1_000_000}, NOW)
    count_changes(redis, keys, {"accepted:text_generation": 1_000_007, "purged:text_generation": 3}, NOW)
    count_changes(redis, keys, {"accepted:text_generation": 1_000_007, "purged:text_generation": 3}, NOW)

    assert read_minutes(redis, keys, NOW, 1) == [{"accepted:text_generation": 7, "purged:text_generation": 3}]


def test_two_days_of_a_busy_system_are_small(redis: Redis, keys: Keys) -> None:
    """Less than two kilobytes a minute with each of birdfeed's own fields."""
    accept(redis, keys, events(1))
    (item,) = work(redis, keys)
    counters = Counters(redis, keys, Meter(keys, "p"), Clock(time=lambda: NOW))
    for event_type in ("text_generation", "image_generation"):
        for reason in ("invalid", "rejected", "quarantined", "too_large", "gave_up", "internal_error"):
            item.header = structs.replace(item.header, event_type=event_type)
            item.outcome = Dead(reason, "x")
            counters.count(count_outcomes([item]))

    size = redis.memory_usage(minute_key(keys, NOW))
    assert size is not None
    assert size < 2_000


def test_junk_in_a_minute_is_ignored(redis: Redis, keys: Keys) -> None:
    """Whatever wrote it."""
    redis.hset(minute_key(keys, NOW), mapping={"written:text_generation": "many", "dead:x:y": "-4", b"\xc3\xa4": "1"})

    assert read_minutes(redis, keys, NOW, 1) == [{"\xe4": 1}]
