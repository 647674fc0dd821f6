"""Status: the screen and the verdict."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.common.time_spans import age
from birdfeed_cli.common.watch import watched
from birdfeed_cli.operate.status import describe, view
from birdfeed_schemas.safety.redis_facts import RedisFacts
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.flow.circuit_breaker import Trip
from birdfeed_worker.flow.destinations import Destination, read_destination
from birdfeed_worker.model import Dead, Deferred, Written, count_outcomes
from birdfeed_worker.monitoring import status as module
from birdfeed_worker.monitoring.counters import Counters, Sampler
from birdfeed_worker.monitoring.depth import Depth
from birdfeed_worker.monitoring.facts import DeadReason, Health, Rates
from birdfeed_worker.monitoring.ledger import Account, Ledger
from birdfeed_worker.monitoring.metrics import Meter
from birdfeed_worker.monitoring.producers import HostSpool, Producer
from birdfeed_worker.monitoring.status import made_at, read_status
from birdfeed_worker.monitoring.verdict import judged
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from rich.console import Console
from rq import SimpleWorker
from typer.testing import CliRunner

from tests.support.worker.dead import accept, bury, events, work
from tests.support.worker.well import WELL, WORKER

GUARDED = json.dumps({"reason": "invalid", "dead": 9, "seen": 9, "since": 1})


@pytest.mark.parametrize(
    ("change", "health", "said"),
    [
        ({}, Health.HEALTHY, ""),
        ({"workers": []}, Health.DOWN, "no worker is running"),
        ({"workers": [replace(WORKER, silent=90.0)]}, Health.DOWN, "no worker is running"),
        (
            {"tripped": {"t": Trip(reason="invalid", dead=90, seen=100, since=0.0)}},
            Health.DEGRADED,
            "t is deferred by its circuit breaker: 90 of 100 recent events failed with invalid",
        ),
        (
            {"destinations": {"d": Destination(state="paused", reason="HTTP 403: nope")}},
            Health.DEGRADED,
            "d refuses every request: HTTP 403: nope",
        ),
        (
            {"destinations": {"d": Destination(state="backing_off", reason="HTTP 429")}},
            Health.DEGRADED,
            "d takes no rows",
        ),
        ({"lag": 301.0}, Health.DEGRADED, "waited for 5 minutes"),
        ({"lag": 299.0}, Health.HEALTHY, ""),
        (
            {"ledger": Ledger(accounts={"t": Account(accepted=1)}, anomalies={})},
            Health.DEGRADED,
            "the ledger does not balance",
        ),
        ({"ledger": Ledger(accounts={"t": Account(accepted=1)}, anomalies={}, consistent=False)}, Health.HEALTHY, ""),
        ({"redis": RedisFacts(append_only=False)}, Health.DEGRADED, "Redis keeps no append-only file"),
    ],
)
def test_the_verdict(change: dict[str, Any], health: Health, said: str) -> None:
    """Healthy, degraded or down, and one sentence for each reason."""
    status = judged(replace(WELL, **change))

    assert (status.health, len(status.problems)) == (health, 1 if said else 0)
    assert said in " ".join(status.problems)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "birdfeed is healthy, but has not written any events yet"),
        ({"ledger": Ledger(accounts={"t": Account(accepted=1, written=1)}, anomalies={})}, "birdfeed is healthy"),
        ({"workers": []}, "birdfeed is down"),
    ],
    ids=["nothing written", "written", "down"],
)
def test_healthy_before_anything_was_written(change: dict[str, Any], said: str) -> None:
    """The verdict and its exit code are those of a healthy system, but the text says that nothing was written yet."""
    console = Console(width=80, file=StringIO())

    console.print(view(judged(replace(WELL, **change)), None))

    assert console.file.getvalue().splitlines()[0].strip() == said  # type: ignore[attr-defined]


def test_a_destination_is_read_from_the_limiters_hash() -> None:
    """Open, throttled until, paused because."""
    closed = {"backoff_until": "1010.5", "failures": "2", "reason": "HTTP 429", "since": "990", "last_success": "980"}

    assert read_destination({}, 1_000.0) == Destination()
    assert read_destination({"last_success": "999.5"}, 1_000.0) == Destination(last_success=999.5)
    assert read_destination(closed, 1_000.0) == Destination(
        state="backing_off", reason="HTTP 429", until=1010.5, since=990.0, failures=2, last_success=980.0
    )
    assert read_destination({**closed, "paused": "1"}, 2_000.0).state == "paused", "until a probe gets through"


def test_when_a_job_was_made_is_in_its_id() -> None:
    """In the ids of the producer, of replays and of dead letters; not in others."""
    assert made_at("01890a5d-ac96-774b-bcce-b302099a8057") == pytest.approx(1688194100, abs=600_000)
    assert made_at("replay-01890a5d-ac96-774b-bcce-b302099a8057") is not None
    assert made_at("6f9619ff-8b86-4d01-b42d-00cf4fc964ff") is None
    assert made_at("junk") is None


def test_the_oldest_letter_of_a_late_reason(redis: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search has a limit; beyond it the age is unknown."""
    now = datetime(2026, 1, 3, tzinfo=UTC)
    monkeypatch.setattr("birdfeed_worker.dead_letters.sums.PAGE", 2)
    monkeypatch.setattr(module, "PAGE", 2)
    bury(redis, keys, events(5), each=True, now=now - timedelta(hours=2))
    bury(redis, keys, events(1), "rejected", now=now - timedelta(hours=1))

    def oldest(bound: int) -> dict[str, float | None]:
        monkeypatch.setattr(module, "LOOKED_AT", bound)
        return {reason: one.oldest for reason, one in read_status(redis, keys, now.timestamp()).dead.items()}

    assert oldest(6) == {"invalid": 7_200, "rejected": 3_600}
    assert oldest(4) == {"invalid": 7_200, "rejected": None}


def test_everything_is_read(redis: Redis, keys: Keys) -> None:
    """From a queue with everything that can be in it."""
    bury(redis, keys, events(3), now=datetime(2026, 1, 1, tzinfo=UTC))
    bury(redis, keys, events(2), "rejected", "HTTP 400")
    accept(redis, keys, events(4))
    items = work(redis, keys, lambda item: Written())
    for number, item in enumerate(items):
        item.cost_status = "unpriced" if number == 0 else "priced"
    Counters(redis, keys, Meter(keys, "p")).count(count_outcomes(items))
    Sampler(redis, keys, Clock()).step()
    accept(redis, keys, events(5))
    work(redis, keys, lambda item: Deferred(9_999_999_999.0))
    accept(redis, keys, events(1))
    worker = SimpleWorker([keys.queue], connection=redis, name="w1")
    worker.register_birth()

    status = read_status(redis, keys, datetime.now(UTC).timestamp() + 40)

    assert status.depth == Depth(1, 0, 1)
    assert status.lag == pytest.approx(40, abs=15)
    assert {reason: one.events for reason, one in status.dead.items()} == {"invalid": 3, "rejected": 2}
    assert status.dead["rejected"].oldest == pytest.approx(40, abs=15)
    assert status.dead["invalid"].oldest is not None
    assert status.dead["invalid"].oldest > 86_400
    assert status.unpriced == 0.25
    assert status.rates is not None
    assert status.rates.accepted == pytest.approx(6 / 40, rel=0.3)
    assert [(one.name, one.state) for one in status.workers] == [("w1", "starting")]
    assert status.health is Health.HEALTHY


def test_an_idle_system(redis: Redis, keys: Keys) -> None:
    """An empty Redis."""
    status = read_status(redis, keys, 1_000.0)

    assert (status.lag, status.rates, status.dead, status.unpriced) == (None, None, {}, None)
    assert status.health is Health.DOWN


@pytest.fixture
def run(valkey_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[..., Any]:
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    monkeypatch.setenv("BIRDFEED_SPOOL_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *command: CliRunner().invoke(app, list(command))


def test_the_screen(run: Callable[..., Any], redis: Redis, keys: Keys) -> None:
    """80 columns, 24 lines; the exit code is that of the verdict; --json has the same."""
    bury(redis, keys, events(3))
    accept(redis, keys, events(4))
    assert (run("status").exit_code, json.loads(run("status", "--json").stdout)["health"]) == (3, "down")
    worker = SimpleWorker([keys.queue], connection=redis, name="w1")
    worker.register_birth()
    redis.hset(
        keys.birdfeed("destination:llm_events"),
        mapping={"backoff_until": "9999999999", "failures": "1", "paused": "1", "reason": "HTTP 403: no", "since": "1"},
    )
    redis.hset(keys.birdfeed("breaker"), "image_generation", GUARDED)

    shown = run("status")
    as_json = json.loads(run("status", "--json").stdout)

    lines = shown.stdout.splitlines()
    assert shown.exit_code == 1
    assert max(len(line) for line in lines) <= 80
    assert len(lines) <= 24
    assert "birdfeed is degraded" in lines[0]
    assert "llm_events refuses every request: HTTP 403: no" in shown.stdout
    assert "birdfeed resume image_generation" in " ".join(shown.stdout.split())
    assert (as_json["health"], as_json["queue"]["queued"], as_json["dead"]["invalid"]["events"]) == ("degraded", 1, 3)
    assert as_json["ledger"]["balanced"] is True
    assert as_json["tripped"]["image_generation"]["reason"] == "invalid"


def test_status_without_redis(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Down, also as JSON."""
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "redis://127.0.0.1:1/0")

    done = run("status", "--json")

    assert done.exit_code == 3
    assert json.loads(done.stdout)["health"] == "down"


def test_a_screen_with_everything_on_it() -> None:
    """Many workers, rates, throttled and paused sources, a spool that can't be read, an unbalanced ledger."""
    console = Console(width=80, file=StringIO())
    status = replace(
        WELL,
        depth=Depth(5, 2, 7),
        lag=4_000.0,
        next_due=12.0,
        rates=Rates(accepted=10.5, written=9.0, dead=1.5, seconds=60.0),
        workers=[replace(WORKER, pid=pid, state="busy", in_flight=3, silent=40.0) for pid in range(12)],
        destinations={"d": Destination(state="backing_off", reason="HTTP 429", until=1_030.0, since=900.0)},
        dead_bytes=2_500_000,
        dead={"invalid": DeadReason(events=3, oldest=None)},
        ledger=Ledger(accounts={"t": Account(accepted=5, dropped={"closed": 1})}, anomalies={}, consistent=False),
        costs={"priced": 3, "unpriced": 1, "no_usage": 9},
        producers=[
            Producer(host=f"web-{n % 11}", pid=n, buffered=2, dropped={"closed": 5, "sampled": 900}) for n in range(22)
        ],
        spools=[
            HostSpool(host="web-9", events=1_921, bytes=3_000_000, oldest=130.0, producers=1),
            HostSpool(host="web-20", events=1, bytes=9, oldest=7_300.0, producers=0),
        ],
    )

    for spool in (None, {"events": 3, "bytes": 2_000_000, "reports": 0}, {"error": "SpoolError: no"}):
        console.print(view(judged(status), spool))
        describe(status, spool)

    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    for words in (
        "5 jobs wait, 2 in flight, 7 scheduled (next in 12 s); the oldest is 1 h 6 min old",
        "10.5 events/s in, 9.0 written, 1.5 dead (last 1 min)",
        "h 0: busy, 3 jobs in flight, 0 done, silent for 40 s",
        "and 4 more, 4 of them busy",
        "backing off for 1 min 40 s: HTTP 429; next try in 30 s; nothing written yet",
        "about 2.5 MB of Redis in all",
        "web-0: 2 processes, 4 events in memory, 10 dropped",
        "and 3 more hosts; 22 processes on all hosts together",
        "web-9: 1,921 events, 3.0 MB, the oldest 2 min 10 s old",
        "web-20: 1 event, 0.0 MB, the oldest 2 h 1 min old; no producer runs there",
        "where no producer is running: run `birdfeed spool drain` there → runbook: Events wait in a spool",
        "3 events (2.0 MB) on disk, waiting for Redis",
        "can't be read: SpoolError: no",
        "25.0% of rows unpriced",
        "4 MISSING; it changes too fast for a verdict",
    ):
        assert words in shown, (words, shown)


def test_watching_continues_while_redis_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until Ctrl-C."""
    looks: Iterator[Any] = iter(["first", RedisConnectionError("gone"), "second", KeyboardInterrupt()])

    def look() -> Any:
        found = next(looks)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr("birdfeed_cli.common.watch.time.sleep", lambda seconds: None)

    assert watched(look) == 0
    assert "second" in capsys.readouterr().out


def test_metrics_without_a_launcher(run: Callable[..., Any], redis: Redis, keys: Keys) -> None:
    """On the command line."""
    accept(redis, keys, events(4))

    done = run("metrics")

    assert 'birdfeed_queue_jobs{place="queued"} 1.0' in done.stdout


def test_resume(run: Callable[..., Any], redis: Redis, keys: Keys) -> None:
    """It lists what is resumed, and logs it."""
    redis.hset(keys.birdfeed("breaker"), "text_generation", GUARDED)

    done = run("resume")
    again = run("resume", "text_generation", "--breaker-off", "10m")
    wrong = run("resume", "llm", "--breaker-off", "ten")

    assert "text_generation is resumed; it was deferred because its events failed: invalid" in done.stdout
    assert "the circuit breaker is off for 10 min" in again.stdout
    assert wrong.exit_code == 2
    assert "'ten' is not a length of time" in wrong.stderr
    assert "nothing was paused" in run("resume").stdout
    log = json.loads(run("dead", "log", "--json").stdout)
    assert [entry["action"] for entry in log] == ["resume"] * 3
    accept(redis, keys, events(150))
    work(redis, keys, lambda item: Dead("invalid", "x"))


def test_a_disabled_breaker_is_shown(run: Callable[..., Any], redis: Redis, keys: Keys) -> None:
    """With its end, as text and as JSON; not after that, and not if it is enabled."""
    on = run("status")
    run("resume", "text_generation", "--breaker-off", "10m")
    redis.hset(keys.birdfeed("breaker-off"), "image_generation", "1000.0")

    shown = run("status").stdout
    left = json.loads(run("status", "--json").stdout)["breaker_off"]

    until = datetime.fromtimestamp(float(redis.hget(keys.birdfeed("breaker-off"), "text_generation") or 0), UTC)
    assert f"off for text_generation until {until:%H:%M} UTC" in shown
    assert "off for" not in on.stdout
    assert "image_generation" not in shown
    assert {name: round(one["seconds"]) in range(540, 601) for name, one in left.items()} == {"text_generation": True}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3_600, "1 h"), (7_320, "2 h 2 min"), (90_000, "1 d 1 h")],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    """Two parts at most."""
    assert age(seconds) == words
