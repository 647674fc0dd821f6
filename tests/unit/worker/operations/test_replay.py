"""Replay: fixed events go back once, also with concurrent replays and interruptions."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters import query as letters_module
from birdfeed_worker.dead_letters.move import Moved, Mover, Step
from birdfeed_worker.dead_letters.query import Choice, dead_letters_of, letters_of
from birdfeed_worker.model import Dead, Item, Outcome, Written
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.operations.canary import Canary, Verdict
from birdfeed_worker.operations.edit import Edit
from birdfeed_worker.operations.replay import Order, Replay, Replayed, replay
from redis import Redis

from tests.support.events import envelope, text
from tests.support.wait import eventually
from tests.support.worker.dead import accept, bury, dead_events, events, ids, work


def run(redis: Redis, keys: Keys, **order: object) -> Replayed:
    return Replay(redis, keys, Order(**order)).run()  # type: ignore[arg-type]


def balanced(redis: Redis, keys: Keys) -> bool:
    return read_ledger(redis, keys).balanced


def test_a_filter_splits_a_letter(redis: Redis, keys: Keys) -> None:
    """The selected events go back under the replay's name, the others stay in the letter, and the ledger counts it."""
    mine, others = events(3, user="ann"), events(4, user="bob")
    (letter,) = bury(redis, keys, [*mine, *others])

    result = run(redis, keys, choice=Choice(user="ann"))

    assert (result.letters, result.events) == (1, 3)
    (left,) = dead_letters_of(redis, keys)
    assert (left.id, left.events, left.reason) == (letter.id, 4, "invalid")
    assert b"dead letter: 4 text_generation" in (redis.hget(keys.job(letter.id), "description") or b"")
    assert read_ledger(redis, keys).total.dead == {"invalid": 4}
    assert balanced(redis, keys)
    back = work(redis, keys)
    assert sorted(ids(back)) == sorted(ids(mine))
    assert all(item.verify and item.header.replay_id.startswith("replay-") for item in back)
    assert [item.header.replays for item in back] == [1, 1, 1]
    assert balanced(redis, keys)


def test_a_limit_is_kept_to_the_event(redis: Redis, keys: Keys) -> None:
    """Also within a letter."""
    bury(redis, keys, events(5))
    bury(redis, keys, events(5))

    assert run(redis, keys, limit=7).events == 7

    assert len(dead_events(redis, keys)) == 3
    assert len(work(redis, keys)) == 7
    assert balanced(redis, keys)


def test_the_rate_is_kept(redis: Redis, keys: Keys) -> None:
    """Events a second, over the whole replay; letters that are too large for it are split."""
    bury(redis, keys, events(50))
    bury(redis, keys, events(1))
    turned = Turned()

    result = Replay(redis, keys, Order(rate=10), clock=turned.clock).run()

    assert result.events == 51
    assert turned.now == pytest.approx(5.1)
    assert max(turned.slept) <= 1.01


class Turned:
    """A clock whose sleep returns immediately."""

    def __init__(self, on_sleep: Callable[[], None] = lambda: None) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.on_sleep = on_sleep
        outer = self

        class Sleeper(Clock):
            def sleep(self, seconds: float) -> bool:
                outer.slept.append(seconds)
                outer.now += seconds
                outer.on_sleep()
                return False

        self.clock = Sleeper(monotonic=lambda: self.now)


@pytest.mark.parametrize("lives", [True, False])
def test_one_event_of_each_kind_goes_first(redis: Redis, keys: Keys, lives: bool) -> None:
    """The others of its kind follow if it is written, and stay dead letters if not; each kind is tried by itself."""
    bury(redis, keys, events(4), "invalid", "model: missing")
    bury(redis, keys, events(3), "quarantined", "cost: not a number")
    seen: list[int] = []

    def rule(item: Item) -> Outcome:
        return Written() if lives or (item.header.reason == "" and len(seen) > 1) else Dead("invalid", "model: missing")

    turned = Turned(lambda: seen.append(len(work(redis, keys, rule))))
    canary = Canary(redis, keys, 30, turned.clock)

    result = Replay(redis, keys, Order(), canary=canary, clock=turned.clock).run()
    work(redis, keys)

    assert seen[0] == 1
    if lives:
        assert (result.events, result.held_back, result.canaries) == (7, 0, {"written": 2})
        assert dead_events(redis, keys) == []
    else:
        assert (result.events, result.held_back, result.canaries) == (2, 5, {"died again": 2})
        assert len(dead_events(redis, keys)) == 7
    assert balanced(redis, keys)


def test_a_canary_without_an_outcome_holds_its_kind_back(redis: Redis, keys: Keys) -> None:
    """Without a worker: after its timeout the replay reports it, and the event waits in the queue."""
    bury(redis, keys, events(4))
    turned = Turned()

    result = Replay(redis, keys, Order(), canary=Canary(redis, keys, 30, turned.clock), clock=turned.clock).run()

    assert (result.events, result.held_back, result.canaries) == (1, 3, {Verdict.NO_OUTCOME.value: 1})
    assert turned.now == pytest.approx(30, abs=0.2)
    assert balanced(redis, keys)


def test_events_that_fail_again_are_not_replayed_twice_by_one_replay(redis: Redis, keys: Keys) -> None:
    """So the replay ends; another one takes them, until they were replayed too often."""
    bury(redis, keys, events(3))
    order = Order(max_replays=2)
    died = lambda item: Dead("invalid", "model: missing")  # noqa: E731

    assert Replay(redis, keys, order).run().events == 3
    work(redis, keys, died)
    (letter,) = letters_of(redis, keys)
    assert (letter.replays, letter.replay_id) == (1, order.replay_id)
    assert Replay(redis, keys, order).run() == Replayed()
    assert run(redis, keys, max_replays=2).events == 3
    work(redis, keys, died)
    result = run(redis, keys, max_replays=2)

    assert (result.events, result.too_often) == (0, 3)
    assert balanced(redis, keys)


def test_events_dead_lettered_after_the_start_are_not_replayed(redis: Redis, keys: Keys) -> None:
    """So new dead letters don't keep a replay running for ever."""
    bury(redis, keys, events(2))

    assert run(redis, keys, started=datetime.now(UTC) - timedelta(minutes=1)).events == 0


def test_a_dry_run_counts_and_changes_nothing(redis: Redis, keys: Keys) -> None:
    """It also reports which would be refused again."""
    good, bad = events(2), [envelope({"model": 4.1}) for _ in range(3)]
    bury(redis, keys, [*good, *bad])
    before = {key: redis.dump(key) for key in redis.keys("*")}

    result = run(redis, keys, dry_run=True)

    assert (result.events, result.letters) == (2, 1)
    assert result.refused == {"model: Input should be a valid string": 3}
    assert {key: redis.dump(key) for key in redis.keys("*")} == before


def test_events_are_fixed_on_replay_and_invalid_ones_stay(redis: Redis, keys: Keys) -> None:
    """Ids and times stay, old spellings are removed, and only events that the worker would accept go back."""
    mendable = envelope({"modelUsed": "m", "model": 4.1, "status": "success"})
    hopeless = envelope({"model": 4.1, "duration": -1})
    bury(redis, keys, [mendable, hopeless])

    result = run(redis, keys, edit=Edit(put={"model": "openai", "model_used": "gpt", "usage.prompt_tokens": 7}))

    assert (result.events, result.refused.total()) == (1, 1)
    (back,) = work(redis, keys)
    assert back.envelope is not None
    assert (back.envelope.event_id, back.envelope.occurred_at) == (mendable.event_id, mendable.occurred_at)
    assert back.envelope.data == {
        "model": "openai",
        "model_used": "gpt",
        "usage": {"prompt_tokens": 7},
        "status": "success",
    }
    assert hopeless.event_id in dead_events(redis, keys)[0]
    assert balanced(redis, keys)


def test_events_are_replayed_as_another_type(redis: Redis, keys: Keys) -> None:
    """Accepted counts move with them."""
    bury(redis, keys, [replace(one, event_type="text_generaton") for one in events(3)], "unknown_event_type", "no type")

    result = run(redis, keys, edit=Edit(event_type="text_generation"), limit=2)

    assert result.events == 2
    assert {item.header.event_type for item in work(redis, keys)} == {"text_generation"}
    accounts = read_ledger(redis, keys).accounts
    assert (accounts["text_generation"].accepted, accounts["text_generation"].written) == (2, 2)
    assert accounts["text_generaton"].accepted == 1
    assert balanced(redis, keys)


def test_deleted_letters_are_skipped(redis: Redis, keys: Keys) -> None:
    """rq's own requeue stops at the first one."""
    letters = bury(redis, keys, events(3), each=True)
    redis.delete(keys.job(letters[0].id))
    one = Step(letters[0], {0: b"{}"}, "replay-x", letters[0].event_type)

    assert Mover(redis, keys).back([one]) == [Moved.GONE]
    assert replay(redis, keys).events == 2


def test_a_step_whose_answer_was_lost_is_done_once(redis: Redis, keys: Keys) -> None:
    """The client repeats the call; also if the job was processed and deleted meanwhile."""
    (letter,) = bury(redis, keys, events(4))
    assert letter.batch is not None
    one = Step(letter, {0: letter.batch.lines[0]}, "replay-x", letter.event_type)
    mover = Mover(redis, keys)

    assert mover.back([one, one]) == [Moved.DONE, Moved.DONE]
    assert len(work(redis, keys)) == 1
    assert mover.back([one]) == [Moved.DONE]

    assert len(dead_events(redis, keys)) == 3
    assert balanced(redis, keys)


def test_the_second_of_two_replays_reads_again(redis: Redis, keys: Keys) -> None:
    """Two replays of one letter with different filters: the one with the older state still gets its own events."""
    ann, bob = events(3, user="ann"), events(4, user="bob")
    (letter,) = bury(redis, keys, [*ann, *bob])
    assert letter.batch is not None
    stale = Step(letter, {0: letter.batch.lines[0]}, "replay-stale", letter.event_type)

    assert run(redis, keys, choice=Choice(user="bob")).events == 4

    assert Mover(redis, keys).back([stale]) == [Moved.CHANGED]
    assert run(redis, keys, choice=Choice(user="ann")).events == 3
    assert Counter(ids(work(redis, keys))) == Counter(ids([*ann, *bob]))


def test_a_replay_reads_again_what_changes_meanwhile(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replay changes the same letters between its read and its step."""
    everything = [envelope(text(user=("ann", "bob")[number % 2])) for number in range(20)]
    bury(redis, keys, everything[:10])
    bury(redis, keys, everything[10:])
    look, others = letters_module.opened, list[Moved]()

    def look_and_lose(*args: Any) -> Any:
        found: Any = look(*args)
        if not others:
            line = found[0].batch.lines[1]
            others.extend(Mover(redis, keys).back([Step(found[0], {1: line}, "replay-other", found[0].event_type)]))
        return found

    monkeypatch.setattr("birdfeed_worker.operations.replay.opened", look_and_lose)

    result = run(redis, keys)

    assert (result.events, result.vanished) == (19, 0)
    assert Counter(ids(work(redis, keys))) == Counter(ids(everything))
    assert balanced(redis, keys)


def test_a_replay_can_be_stopped_between_two_steps(redis: Redis, keys: Keys) -> None:
    """It reports that; the replayed events are counted."""
    bury(redis, keys, events(250), each=True)
    asked = iter(range(1_000))

    result = Replay(redis, keys, Order(), stop=lambda: next(asked) > 120).run()

    assert result.stopped
    assert 50 <= result.events <= 121
    assert redis.llen(keys.queue_list) == result.events


REPLAYER = """
import sys
from redis import Redis
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import Choice
from birdfeed_worker.operations.replay import Order, Replay
print("go", flush=True)
order = Order(choice=Choice(user=sys.argv[2]), rate=float(sys.argv[3]) or None)
print(Replay(Redis.from_url(sys.argv[1]), Keys("rq", "birdfeed"), order).run().events, flush=True)
"""


@pytest.mark.heavy
def test_two_concurrent_replays_one_of_which_is_killed(
    redis: Redis, keys: Keys, valkey_url: str, tmp_path: Path
) -> None:
    """Of one group with different filters, kill -9 during the splitting: nothing is doubled or lost."""
    everything = [envelope(text(user=("ann", "bob")[number % 2])) for number in range(600)]
    for first in range(0, 600, 60):
        bury(redis, keys, everything[first : first + 60])

    def start(user: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-c", REPLAYER, valkey_url, user, "400"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    with start("ann") as ann, start("bob") as bob:
        eventually(lambda: redis.llen(keys.queue_list) > 1, what="both are at it")
        ann.send_signal(signal.SIGKILL)
        ann.wait()
        assert bob.wait(30) == 0
    taken = redis.llen(keys.queue_list)
    assert balanced(redis, keys)
    replay(redis, keys, Choice(user="ann"))

    assert taken > 1
    assert list(letters_of(redis, keys)) == []
    assert Counter(ids(work(redis, keys))) == Counter(ids(everything))
    assert read_ledger(redis, keys).total.written == 600
    assert balanced(redis, keys)


def test_unreadable_letters_stay(redis: Redis, keys: Keys) -> None:
    """They have no events that could be replayed."""
    job_id = accept(redis, keys, events(2))
    redis.hset(keys.job(job_id), "data", b"not rq's")
    work(redis, keys)

    result = replay(redis, keys)

    assert (result.events, result.unreadable) == (0, 1)
    assert read_ledger(redis, keys).total.dead == {"undecodable": 2}
    assert balanced(redis, keys)
