"""The ledger: every event is counted once and is in one state, whatever happens to its job."""

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from birdfeed.encoding.batch import PackedBatch
from birdfeed.encoding.batch import pack as producer_pack
from birdfeed.transport.enqueuer import Enqueuer
from birdfeed_schemas.wire.accounts import LEDGER_FIELDS
from birdfeed_schemas.wire.envelope import Header, encode_batch, encode_event
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import Choice, letters_of
from birdfeed_worker.model import Dead, Deferred, Item, Outcome, ReservedJob, Written
from birdfeed_worker.monitoring import ledger as ledger_module
from birdfeed_worker.monitoring.ledger import Account, accounts_of, read_ledger
from birdfeed_worker.operations.forget import Forget, Person
from birdfeed_worker.operations.purge import purge
from birdfeed_worker.operations.reconcile import reconcile, write_off
from birdfeed_worker.operations.replay import Order, Replay
from birdfeed_worker.pipeline.decode import decode
from birdfeed_worker.pipeline.settle import Settler
from birdfeed_worker.queue.codec import pack
from birdfeed_worker.queue.reserve import Reserver
from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FailedJobRegistry, StartedJobRegistry
from rq.serializers import JSONSerializer
from uuid_utils import uuid7

from tests.support.events import envelope, text
from tests.support.worker.dead import accept, bury, events, work


def test_accounts_are_read_from_the_hash() -> None:
    """By type; unknown fields are ignored; events that were never accepted are an excess."""
    counts = {"accepted:a": 10, "written:a": 4, "dead:a:invalid": 3, "dropped:a:closed": 1, "purged:a": 1, "x:a": 9}

    accounts = accounts_of({**counts, "written:b:c": 2, "dead:b:c:invalid": 0}, {"a": 1, "d": 5})

    assert accounts["a"] == Account(
        accepted=10, written=4, dead={"invalid": 3}, dropped={"closed": 1}, purged=1, in_flight=1
    )
    assert {name: account.missing for name, account in accounts.items()} == {"a": 0, "b:c": -2, "d": -5}


class Life:
    """Random operations on a queue; the ledger balances after every step."""

    def __init__(self, redis: Redis, keys: Keys, seed: int) -> None:
        self.redis = redis
        self.keys = keys
        self.draw = random.Random(seed)
        self.enqueuer = Enqueuer(redis, keys)
        self.batches: list[PackedBatch] = []
        self.hands: dict[str, list[ReservedJob]] = {}
        self.tracked = 0
        self.failed = FailedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer)

    def accept(self) -> None:
        """The producer enqueues a batch, maybe twice."""
        batch_id, kind = str(uuid7()), self.draw.choice(["text_generation", "image_generation"])
        lines = [
            encode_event(envelope(text(user=self.draw.choice("ab")), kind)) for _ in range(self.draw.randint(1, 5))
        ]
        packed = encode_batch(Header(batch_id=batch_id, event_type=kind, count=len(lines)), lines)
        made = PackedBatch(id=batch_id, event_type=kind, events=len(lines), size=len(packed), data=pack(packed))
        self.batches.append(made)
        self.tracked += len(lines)
        self.enqueuer.enqueue([made] * self.draw.randint(1, 2))

    def enqueue_again(self) -> None:
        """After a lost answer the same batch is enqueued again."""
        if self.batches:
            self.enqueuer.enqueue([self.draw.choice(self.batches)])

    def drop(self) -> None:
        """A producer reports the same drops twice."""
        report, amount = str(uuid7()), self.draw.randint(1, 3)
        for _ in range(2):
            self.enqueuer.report(report, {("text_generation", "closed"): amount})
        self.tracked += amount

    def reserve(self) -> None:
        """A worker reserves some."""
        name = f"w{self.draw.randint(0, 2)}"
        if not self.hands.get(name):
            self.hands[name] = Reserver(self.redis, self.keys, name, 20).reserve(
                jobs=self.draw.randint(1, 4), events=8, size=10**6
            )

    def settle(self) -> None:
        """A worker settles the jobs that it has (or had) in flight."""
        for name, jobs in list(self.hands.items()):
            if jobs and self.draw.random() < 0.7:
                decoded = decode(jobs)
                for item in decoded.items:
                    item.outcome = self.outcome(item)
                Settler(self.redis, self.keys, name).settle(jobs, decoded, datetime.now(UTC))
                self.hands[name] = []

    def outcome(self, item: Item) -> Outcome:
        """A random outcome."""
        dead = [Dead("invalid", "x"), Dead("rejected", "HTTP 400")]
        outcomes: list[Outcome] = [Written(), Written(), *dead, Deferred(), Deferred(1.0), Deferred(2.0, 1.0)]
        return self.draw.choice(outcomes)

    def lose(self) -> None:
        """A worker is lost; its jobs go back. It may still try to settle them."""
        name = f"w{self.draw.randint(0, 2)}"
        Reserver(self.redis, self.keys, "", 20).recover(name)
        if self.draw.random() < 0.7:
            self.hands[name] = []

    def promote(self) -> None:
        """Deferred jobs are due."""
        Reserver(self.redis, self.keys, "", 20).promote()

    def rq_cleans(self) -> None:
        """`rq info` runs rq's own clean-up."""
        if self.draw.random() < 0.3:
            for member, _ in self.redis.zscan_iter(self.keys.started):
                self.redis.zadd(self.keys.started, {member: 1})
        StartedJobRegistry(queue=Queue(self.keys.queue, connection=self.redis, serializer=JSONSerializer)).cleanup()
        self.failed.cleanup()

    def rq_requeues(self) -> None:
        """rq, or rq-dashboard, brings a dead letter back."""
        for job_id in self.failed.get_job_ids(cleanup=False)[:1]:
            self.failed.requeue(job_id)

    def replay(self) -> None:
        """Replay all, or one user's."""
        choice = self.draw.choice([Choice(), Choice(user="a"), Choice(reason="invalid")])
        Replay(self.redis, self.keys, Order(choice=choice, limit=self.draw.randint(1, 6), max_replays=99)).run()

    def purge(self) -> None:
        """Purge a few."""
        purge(self.redis, self.keys, self.draw.choice([Choice(), Choice(user="b")]), limit=self.draw.randint(1, 3))

    def forget(self) -> None:
        """Erase one person, rarely: otherwise nothing would be left."""
        if self.draw.random() < 0.2:
            Forget(self.redis, self.keys, Person(frozenset({"a"}))).run()

    STEPS = (
        accept,
        accept,
        enqueue_again,
        drop,
        reserve,
        reserve,
        settle,
        settle,
        lose,
        promote,
        rq_cleans,
        rq_requeues,
        replay,
        forget,
    )

    def step(self) -> str:
        """One random operation."""
        action = self.draw.choice((*self.STEPS, Life.purge))
        action(self)
        return action.__name__


@pytest.mark.parametrize("seed", range(12))
def test_the_ledger_balances_after_every_step(redis: Redis, keys: Keys, seed: int) -> None:
    """Double enqueues, retries, lost workers, replays, purges, erasure, rq's clean-up and requeue."""
    life = Life(redis, keys, seed)
    steps = []
    for _ in range(150):
        steps.append(life.step())
        ledger = read_ledger(redis, keys)
        assert ledger.balanced, (steps, ledger)
    ledger, findings = reconcile(redis, keys)
    assert findings.dead_orphaned == {}, (steps, findings)
    assert ledger.total.accepted == life.tracked, "each event was accepted once"
    for _ in range(20):
        redis.zunionstore(keys.scheduled, {keys.scheduled: 0})
        life.promote()
        for name in ("w0", "w1", "w2"):
            Reserver(redis, keys, "", 20).recover(name)
        if not work(redis, keys, name="last"):
            break
    ledger = read_ledger(redis, keys)
    assert ledger.balanced
    assert ledger.total.in_flight == 0


@pytest.mark.heavy
def test_made_up_types_share_an_account(redis: Redis, keys: Keys) -> None:
    """1,500 types leave a bounded ledger that balances: accepted, dropped, dead, replayed, purged and erased."""
    enqueuer = Enqueuer(redis, keys)
    made = [pack_batch(f"made-up-{number}", [encode_event(envelope(text(user="a")))]) for number in range(1_500)]
    enqueuer.enqueue(made)
    enqueuer.enqueue([pack_batch("image_generation", [encode_event(envelope(text()))])])
    enqueuer.report("r", {(f"dropped-{number}", "closed"): 1 for number in range(1_500)})

    def check(**expected: int) -> None:
        # Per account: what was accepted, written, dead, dropped and purged, by reason, and the reductions.
        assert redis.hlen(keys.ledger) <= 6 * LEDGER_FIELDS
        ledger, findings = reconcile(redis, keys)
        blunt = read_ledger(redis, keys, consistent_jobs=0)
        assert (ledger.balanced, findings.balanced, dict(findings.missing)) == (True, True, {})
        assert blunt.accounts == ledger.accounts
        total = ledger.total
        counted = {"written": total.written, "dead": sum(total.dead.values()), "purged": total.purged}
        assert {**counted, "in_flight": total.in_flight} == expected
        assert ledger.total.accepted == 3_001
        assert ledger.accounts["image_generation"].accepted == 1

    check(written=0, dead=0, purged=0, in_flight=1_501)
    work(redis, keys, lambda item: Dead("unknown_event_type", "x"))
    check(written=0, dead=1_501, purged=0, in_flight=0)
    Replay(redis, keys, Order(choice=Choice(), limit=900)).run()
    check(written=0, dead=601, purged=0, in_flight=900)
    work(redis, keys)
    check(written=900, dead=601, purged=0, in_flight=0)
    purge(redis, keys, Choice(), limit=300)
    check(written=900, dead=301, purged=300, in_flight=0)
    assert Forget(redis, keys, Person(frozenset({"a"}))).run().dead >= 300
    assert read_ledger(redis, keys).balanced
    assert read_ledger(redis, keys).accounts["other"].accepted > 1_000


def pack_batch(kind: str, lines: list[bytes]) -> PackedBatch:
    """A batch as a producer packs it."""
    return producer_pack(kind, lines, compression=1)


def test_the_full_count_equals_the_quick_one(redis: Redis, keys: Keys) -> None:
    """With more jobs than one step may read."""
    life = Life(redis, keys, 3)
    for _ in range(150):
        life.step()
    consistent = read_ledger(redis, keys)

    blunt = read_ledger(redis, keys, consistent_jobs=0)

    assert (blunt.accounts, dict(blunt.anomalies), blunt.consistent) == (
        consistent.accounts,
        dict(consistent.anomalies),
        True,
    )


def test_a_quick_count_trusts_what_it_does_not_read(redis: Redis, keys: Keys) -> None:
    """For status and metrics, where a million jobs wait."""
    accept(redis, keys, events(4))

    quick = read_ledger(redis, keys, consistent_jobs=0, quick=True)

    assert (quick.total.in_flight, quick.consistent, quick.balanced) == (4, False, True)


def test_a_foreign_job_is_counted_when_it_is_reserved(redis: Redis, keys: Keys) -> None:
    """It is reported before, and dead-lettered after."""
    Queue(keys.queue, connection=redis, serializer=JSONSerializer).enqueue("os.system", "true")
    before = read_ledger(redis, keys)
    work(redis, keys)

    after = read_ledger(redis, keys)
    assert (before.balanced, before.anomalies) == (True, {"foreign": 1})
    assert (after.balanced, after.total.accepted, after.total.dead) == (True, 1, {"undecodable": 1})


def test_dead_letters_deleted_by_another_tool_are_noticed(redis: Redis, keys: Keys) -> None:
    """The ledger's sums balance; the letters in Redis don't. After a write-off they count as purged."""
    letters = bury(redis, keys, events(3), each=True)
    Job.fetch(letters[0].id, connection=redis, serializer=JSONSerializer).delete()

    _, findings = reconcile(redis, keys)

    assert read_ledger(redis, keys).balanced
    assert findings.dead_orphaned == {("text_generation", "invalid"): 1}
    assert not findings.balanced
    assert any("another tool" in one for one in findings.suspects)
    assert write_off(redis, keys)[0] == 1
    ledger, findings = reconcile(redis, keys)
    assert findings.balanced
    assert (ledger.total.purged, ledger.total.dead) == (1, {"invalid": 2})


def test_anomalies_are_named(redis: Redis, keys: Keys) -> None:
    """Jobs in registries birdfeed never uses, jobs in no registry, entries without a job."""
    lost, cancelled, gone = (accept(redis, keys, events(2)) for _ in range(3))
    redis.lrem(keys.queue_list, 0, lost)
    Job.fetch(cancelled, connection=redis, serializer=JSONSerializer).cancel()
    redis.delete(keys.job(gone))

    _, findings = reconcile(redis, keys)

    assert findings.missing == {"text_generation": 6}
    said = " | ".join(findings.suspects)
    assert "1 entry of the queue or a registry has no job" in said
    assert "1 job is in rq's canceled registry" in said
    assert "4 events are in 2 jobs without a registry, such as rq:job:" in said


def test_what_rqs_own_worker_failed_is_named(redis: Redis, keys: Keys) -> None:
    """Until it is counted as a dead letter, nothing is written off."""
    job_id = accept(redis, keys, events(2))
    job = Job.fetch(job_id, connection=redis, serializer=JSONSerializer)
    redis.lrem(keys.queue_list, 0, job_id)
    FailedJobRegistry(keys.queue, connection=redis, serializer=JSONSerializer).add(job, ttl=-1)

    _, findings = reconcile(redis, keys)

    assert (findings.missing, findings.uncounted) == ({"text_generation": 2}, 2)
    assert "2 events are in jobs that rq itself marked as failed" in findings.suspects[0]
    assert write_off(redis, keys)[0] == 0


def test_an_inconsistent_count_gives_no_verdict(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs moved while many were counted."""
    accept(redis, keys, events(2))
    look = ledger_module.under_way

    def moving(*args: Any) -> Any:
        accept(redis, keys, events(1))
        return look(*args)

    monkeypatch.setattr(ledger_module, "under_way", moving)

    assert not read_ledger(redis, keys, consistent_jobs=0).consistent


def test_an_empty_ledger_balances(redis: Redis, keys: Keys) -> None:
    """An empty Redis."""
    ledger, findings = reconcile(redis, keys)

    assert (ledger.accounts, findings.balanced, findings.suspects) == ({}, True, ())
    assert list(letters_of(redis, keys)) == []


def test_an_excess_is_never_written_off(redis: Redis, keys: Keys) -> None:
    """More events than were accepted is a bug; the missing events of another type are written off."""
    redis.hset(
        keys.ledger,
        mapping={
            "accepted:text_generation": 2,
            "written:text_generation": 5,
            "accepted:image_generation": 3,
            "written:image_generation": 2,
        },
    )

    assert write_off(redis, keys)[0] == 1

    assert redis.hget(keys.ledger, "purged:image_generation") == b"1"
    assert redis.hget(keys.ledger, "purged:text_generation") is None
