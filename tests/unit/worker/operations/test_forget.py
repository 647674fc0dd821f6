"""Forget: one person's events are erased, wherever they wait.

All others stay, and the ledger counts the erased ones.
"""

import json
import threading
from typing import Any

import httpx
import orjson
import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import entries, note
from birdfeed_worker.model import Deferred, Written
from birdfeed_worker.monitoring.ledger import read_ledger
from birdfeed_worker.operations.forget import Forget, Forgotten, Person
from birdfeed_worker.operations.reconcile import reconcile
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.erase import Deletion, carry_out, condition_of, deletions
from redis import Redis

from tests.support.events import envelope, text
from tests.support.worker.dead import accept, bury, dead_events, work

ANN = Person(frozenset({"ann", "4711"}))


def of(*users: object) -> list[Any]:
    """Events, one for each user."""
    return [envelope(text(user=user, request_id=f"of-{user}")) for user in users]


def forget(redis: Redis, keys: Keys, **options: Any) -> Forgotten:
    return Forget(redis, keys, ANN, **options).run()


@pytest.mark.parametrize(
    ("event_type", "data", "hers"),
    [
        ("text_generation", {"user": "ann"}, True),
        ("text_generation", {"userId": 4711}, True),
        ("text_generation", {"user_name": "ann"}, True),
        ("image_generation", {"username": "ann", "user": "bob"}, True),
        ("made_up", {"user_id": "ann"}, True),
        ("text_generation", {"user": "anna"}, False),
        ("text_generation", {"model": "ann", "user": "bob"}, False),
        ("text_generation", {"usage": {"user": "ann"}}, False),
    ],
)
def test_the_events_of_a_user(event_type: str, data: dict[str, Any], hers: bool) -> None:
    """By every spelling of user and username; only whole values match."""
    assert ANN.owns(event_type, orjson.dumps({"data": data})) is hers


def test_a_name_with_an_escape_is_found() -> None:
    """JSON may write a character as an escape; invalid lines match no user."""
    assert ANN.owns("text_generation", b'{"data": {"user": "\\u0061nn"}}')
    assert not ANN.owns("text_generation", b'{"data": {"user": "ann"')
    assert not ANN.owns("text_generation", b'["ann"]')


def test_only_the_persons_events_are_erased(redis: Redis, keys: Keys) -> None:
    """From the queue, from what waits for its time, and from dead letters.

    A job with only the person's events is deleted.
    """
    accept(redis, keys, of("ann", "bob"))
    work(redis, keys, lambda item: Deferred(4e9))
    bury(redis, keys, of("ann", "eve", 4711))
    accept(redis, keys, of("ann", "joe", "ann"))
    accept(redis, keys, of("ann"))

    planned = forget(redis, keys, dry_run=True)
    before = read_ledger(redis, keys).total
    done = forget(redis, keys)

    assert (planned.scheduled, planned.dead, planned.queued) == (1, 2, 3)
    assert done == planned
    assert before.dropped == {}, "a dry run changes nothing"
    ledger, findings = reconcile(redis, keys)
    assert ledger.balanced
    assert findings.balanced
    assert ledger.anomalies == {}
    assert ledger.total.dropped == {"forgotten": 6}
    assert ledger.total.dead == {"invalid": 1}
    assert ledger.total.in_flight == 2
    assert [json.loads(line)["data"]["user"] for line in dead_events(redis, keys)] == ["eve"]
    redis.zunionstore(keys.scheduled, {keys.scheduled: 0})
    Reserver(redis, keys, "", 20).promote()
    assert sorted(item.envelope.data["user"] for item in work(redis, keys) if item.envelope) == ["bob", "joe"]
    assert forget(redis, keys).events == 0


def test_what_a_worker_has_in_flight_is_counted_and_erased_later(redis: Redis, keys: Keys) -> None:
    """A job in flight isn't changed; after it was given back, the next run erases it."""
    accept(redis, keys, of("ann", "bob"))
    jobs = Reserver(redis, keys, "w", 20).reserve(jobs=9, events=99, size=10**6)

    first = forget(redis, keys)
    decoded = decode(jobs)
    for item in decoded.items:
        item.outcome = Deferred()
    lost = Settler(redis, keys, "w").settle(jobs, decoded, Clock().now()).lost
    second = forget(redis, keys)

    assert (first.events, first.in_flight) == (0, 1)
    assert lost == 0
    assert (second.events, second.in_flight) == (1, 0)
    assert read_ledger(redis, keys).balanced


def test_a_job_reserved_between_the_read_and_the_step(
    redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left unchanged to its worker, and the ledger still balances."""
    accept(redis, keys, of("ann", "bob"))
    one = Forget(redis, keys, ANN)
    look = one._look
    taken: list[Any] = []

    def look_then_reserve(ids: Any) -> Any:
        found = list(look(ids))
        if not taken:
            taken.extend(Reserver(redis, keys, "w", 20).reserve(jobs=9, events=99, size=10**6))
        return iter(found)

    monkeypatch.setattr(one, "_look", look_then_reserve)

    assert (one.run().events, len(taken)) == (0, 1)
    decoded = decode(taken)
    for item in decoded.items:
        item.outcome = Written()
    Settler(redis, keys, "w").settle(taken, decoded, Clock().now())
    assert read_ledger(redis, keys).total.written == 2
    assert read_ledger(redis, keys).balanced


def test_a_batch_that_is_sent_again_does_not_restore_the_events(redis: Redis, keys: Keys) -> None:
    """A producer whose answer was lost sends the same batch: an emptied one is remembered."""
    job_id = accept(redis, keys, of("ann"))

    forget(redis, keys)

    assert redis.exists(keys.job(job_id)) == 0
    assert redis.llen(keys.queue_list) == 0
    assert redis.ttl(keys.done(job_id)) > 0


def test_what_cant_be_read_is_counted(redis: Redis, keys: Keys) -> None:
    """The users of an unreadable job's events are unknown; it stays."""
    accept(redis, keys, of("ann"))
    job_id = accept(redis, keys, of("ann"))
    redis.hset(keys.job(job_id), "data", b"no zlib, ann")

    done = forget(redis, keys)

    assert (done.events, done.unreadable) == (1, 1)
    assert redis.exists(keys.job(job_id)) == 1


def test_the_log_no_longer_has_the_person(redis: Redis, keys: Keys) -> None:
    """Entries keep their time, order and other details."""
    note(redis, keys, "purge", choice={"user": "ann", "reason": "invalid"}, events=4711)
    note(redis, keys, "resume", types=["ann", "text_generation"])
    note(redis, keys, "purge", choice={"user": "bob"})
    before = list(entries(redis, keys))

    assert forget(redis, keys, dry_run=True).log_entries == 2
    assert list(entries(redis, keys)) == before
    assert forget(redis, keys).log_entries == 2

    after = list(entries(redis, keys))
    assert [(one.at, one.who, one.action) for one in after] == [(one.at, one.who, one.action) for one in before]
    assert [one.details for one in after] == [
        {"choice": {"user": "bob"}},
        {"types": ["(forgotten)", "text_generation"]},
        {"choice": {"user": "(forgotten)", "reason": "invalid"}, "events": 4711},
    ]


def test_a_searched_text_in_the_log_has_no_person_either(redis: Redis, keys: Keys) -> None:
    """The person may be a part of it, in any spelling; other texts stay."""
    note(redis, keys, "purge", choice={"text": '"USER":"Ann"'})
    note(redis, keys, "purge", choice={"text": "no such column"})

    assert forget(redis, keys).log_entries == 1

    assert [one.details["choice"]["text"] for one in entries(redis, keys)] == ["no such column", "(forgotten)"]


@pytest.mark.parametrize("details", [b"\xff", b"[1]", b"{", b""])
def test_an_entry_written_by_another_tool_hides_no_other(redis: Redis, keys: Keys, details: bytes) -> None:
    """Neither in `birdfeed dead log` nor in an erasure."""
    redis.xadd(keys.birdfeed("dead-log"), {"who": "x", "action": "y", "details": details})
    note(redis, keys, "purge", choice={"user": "ann"})

    assert forget(redis, keys).log_entries == 1
    assert [one.details for one in entries(redis, keys)] == [{"choice": {"user": "(forgotten)"}}, {}]


def test_a_long_queue_is_read_completely(redis: Redis, keys: Keys) -> None:
    """Over several pages."""
    for number in range(450):
        accept(redis, keys, of("ann" if number % 3 == 0 else "bob"))

    assert forget(redis, keys).queued == 150
    assert redis.llen(keys.queue_list) == 300


def test_conditions_are_quoted() -> None:
    """A name can't end its string."""
    assert condition_of({"o'ne\\"}, ["user"]) == "`user` IN ('o\\'ne\\\\')"
    one = Deletion(table="llm_events", condition=condition_of({"a' b"}), rows=1)
    assert "a\\'\"'\"' b" in one.command("https://api.example")


def test_deletes_are_requested_and_waited_for() -> None:
    """The count of each table and quarantine, the posted form, and the end of the job."""
    asked: list[tuple[str, str, str]] = []
    states = iter(["waiting", "working", "done"])

    def answer(request: httpx.Request) -> httpx.Response:
        body = request.content.decode()
        asked.append((request.method, request.url.path, body))
        if request.url.path == "/v0/sql":
            if "LIMIT 0" in body:
                return httpx.Response(200, json={"meta": [{"name": "user", "type": "String"}]})
            if "_quarantine" in body:
                return httpx.Response(404, json={"error": "no such table"})
            return httpx.Response(200, json={"data": [{"n": "7"}]})
        if request.method == "POST":
            assert request.headers["authorization"] == "Bearer p.delete"
            return httpx.Response(201, json={"id": "job/1", "status": "waiting"})
        return httpx.Response(200, json={"status": next(states)})

    tinybird = Tinybird("http://localhost", "p.delete", "p.read", transport=httpx.MockTransport(answer))
    (found,) = deletions(tinybird, ["llm_events"], {"ann"})
    clock = Clock(stop=_Never(), monotonic=lambda: 0.0)

    assert (found.table, found.rows, found.condition) == ("llm_events", 7, "`user` IN ('ann')")
    assert carry_out(tinybird, found, clock) == "done"
    assert asked[-4] == ("POST", "/v0/datasources/llm_events/delete", "delete_condition=%60user%60+IN+%28%27ann%27%29")
    assert {path for _, path, _ in asked[-3:]} == {"/v0/jobs/job/1"}


class _Never(threading.Event):
    """A stop that is never set and doesn't wait."""

    def wait(self, timeout: float | None = None) -> bool:
        return False
