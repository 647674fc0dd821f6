"""Metrics and health: what Prometheus reads, and what a supervisor asks."""

import json
import math
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.clock import Clock
from birdfeed_worker.model import Dead, Written, count_outcomes
from birdfeed_worker.monitoring import metrics
from birdfeed_worker.monitoring.counters import Counters
from birdfeed_worker.monitoring.metered import MeteredTinybird
from birdfeed_worker.monitoring.metrics import METRICS, Meter, read_pool
from birdfeed_worker.monitoring.prometheus import expose, of_pool, of_queue
from birdfeed_worker.monitoring.verdict import RULES
from birdfeed_worker.process.bootstrap import make_worker
from birdfeed_worker.process.http import Pages, Pulse, Server
from birdfeed_worker.process.presence import pool_name, pool_of, worker_name
from birdfeed_worker.settings import WorkerSettings
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from tests.support.wait import eventually
from tests.support.worker.dead import accept, bury, events, work


def parsed(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_names_are_prometheus_names_and_each_has_a_meaning() -> None:
    """Counters end in _total, times in _seconds; no two are the same."""
    names = [one.name for one in METRICS]
    assert len(set(names)) == len(names)
    for one in METRICS:
        assert one.name.startswith("birdfeed_")
        assert one.name.endswith("_total") == (one.kind == "counter"), one.name
        assert len(one.meaning) > 20


def test_the_queues_metrics_are_what_status_shows(redis: Redis, keys: Keys) -> None:
    """Every one of them is exported."""
    bury(redis, keys, events(3))
    accept(redis, keys, events(2))
    redis.hset(keys.birdfeed("destination:llm_events"), mapping={"backoff_until": "9999999999", "failures": "1"})

    text = expose(of_queue(redis, keys))
    found = parsed(text)

    def ledger(state: str, reason: str = "") -> float:
        labels = {"event_type": "text_generation", "state": state, "reason": reason}
        return found["birdfeed_ledger_events", tuple(sorted(labels.items()))]

    assert (ledger("accepted"), ledger("dead", "invalid"), ledger("in_flight"), ledger("missing")) == (5, 3, 2, 0)
    assert found["birdfeed_queue_jobs", (("place", "queued"),)] == 1
    assert found["birdfeed_destination_available", (("datasource", "llm_events"),)] == 0
    assert found["birdfeed_destination_available", (("datasource", "image_events"),)] == 1
    assert found["birdfeed_health", ()] == 3
    for one in METRICS:
        assert (f"# TYPE {one.name} {one.kind}".encode() in text) == (one.scope == "queue"), one.name


def test_a_pools_counts_are_sums_over_its_workers(redis: Redis, keys: Keys) -> None:
    """Two workers, one of which has exited; histograms are cumulative."""
    for seconds, died in ((0.3, False), (3.0, True)):
        accept(redis, keys, events(4))
        items = work(redis, keys, lambda item, died=died: Dead("invalid", "x") if died else Written())  # type: ignore[misc]
        Counters(redis, keys, Meter(keys, "p1")).count(count_outcomes(items), 1, 0, seconds)
    Counters(redis, keys, Meter(keys, "p2")).count(count_outcomes([]), 7, 2, 100.0)

    found = parsed(expose(of_pool(read_pool(redis, keys, "p1"), workers=2, ends=1)))

    assert found["birdfeed_events_total", (("event_type", "text_generation"), ("outcome", "written"))] == 4
    assert found["birdfeed_events_total", (("event_type", "text_generation"), ("outcome", "dead"))] == 4
    assert found["birdfeed_jobs_total", ()] == 2
    assert (found["birdfeed_workers", ()], found["birdfeed_worker_ends_total", ()]) == (2, 1)
    buckets = [found["birdfeed_delivery_seconds_bucket", (("le", le),)] for le in ("0.25", "0.5", "2.5", "5.0", "+Inf")]
    assert buckets == [0, 1, 1, 2, 2]
    assert math.isclose(found["birdfeed_delivery_seconds_sum", ()], 3.3)
    other = parsed(expose(of_pool(read_pool(redis, keys, "p2"), workers=0, ends=0)))
    assert other["birdfeed_jobs_lost_total", ()] == 2
    assert other["birdfeed_delivery_seconds_bucket", (("le", "60.0"),)] == 0
    assert other["birdfeed_delivery_seconds_bucket", (("le", "+Inf"),)] == 1


def test_made_up_types_are_one_series(redis: Redis, keys: Keys) -> None:
    """Otherwise many of them would fill Prometheus."""
    from dataclasses import replace

    for name in ("a", "b"):
        accept(redis, keys, [replace(one, event_type=name) for one in events(1)])
    Counters(redis, keys, Meter(keys, "p")).count(
        count_outcomes(work(redis, keys, lambda item: Dead("unknown_event_type", "x")))
    )

    counts = read_pool(redis, keys, "p")
    assert counts[metrics.EVENTS.name, "other", "dead"] == 2


def test_made_up_types_do_not_fill_the_page(redis: Redis, keys: Keys) -> None:
    """1,500 unregistered types are as many lines as one, with the right sums; labels have no control characters."""
    page = expose(of_queue(redis, keys))
    for number in range(1_500):
        redis.hincrby(keys.ledger, f"accepted:made up {number}", 2)
        redis.hincrby(keys.ledger, f"dead:made up {number}:unknown_event_type", 1)
    redis.hincrby(keys.ledger, "dead:made up 0:\x1b[2J\nbirdfeed_health 0", 1)

    full = expose(of_queue(redis, keys))

    found = parsed(full)
    labels = (("event_type", "other"), ("reason", ""), ("state", "accepted"))
    assert found["birdfeed_ledger_events", labels] == 3_000
    assert len(full.splitlines()) - len(page.splitlines()) < 10
    assert not {character for character in full.decode() if not character.isprintable()} - {"\n"}


def test_requests_are_counted_by_status(redis: Redis, keys: Keys) -> None:
    """0 means no answer."""
    meter = Meter(keys, "p")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = MeteredTinybird(
            f"http://127.0.0.1:{taken.getsockname()[1]}", "t", None, connect_timeout=1, read_timeout=1, meter=meter
        )
        client.append("llm_events", b"12345")
        client.close()
    with redis.pipeline() as pipe:
        meter.send(pipe)
        meter.send(pipe)
        pipe.execute()

    counts = read_pool(redis, keys, "p")
    assert counts["birdfeed_requests_total", "llm_events", "0"] == 1
    assert counts["birdfeed_request_bytes_total", "llm_events"] == 5
    assert counts["birdfeed_request_seconds", "llm_events", "count"] == 1


def test_a_worker_knows_its_launcher_by_its_own_name() -> None:
    """So both count in one hash."""
    assert pool_of(worker_name()) == pool_name()


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer timeouts, so that a slow machine isn't taken for a Redis that hangs."""
    monkeypatch.setattr("birdfeed_worker.process.http.LOOK_SECONDS", 60.0)


@pytest.fixture
def pulse() -> Pulse:
    return Pulse("p", workers=1)


@pytest.fixture
def base(redis: Redis, keys: Keys, pulse: Pulse) -> Iterator[str]:
    server = Server(Pages(pulse, redis, keys), "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{server.port}"
    server.close()


def get(url: str) -> tuple[int, str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def test_the_pages(base: str, pulse: Pulse) -> None:
    """Metrics in Prometheus's text, health as JSON, nothing else."""
    status, kind, body = get(f"{base}/metrics?name=x")

    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert parsed(body)["birdfeed_workers", ()] == 1
    assert {one.name for one in METRICS if f"# TYPE {one.name} ".encode() not in body} == set()
    assert (parsed(body)["birdfeed_redis_up", ()], parsed(body)["birdfeed_values_age_seconds", ()] < 60) == (1, True)
    assert get(f"{base}/healthz")[0] == 200
    assert get(f"{base}/readyz")[0] == 200
    assert get(f"{base}/")[0] == 404
    assert get(f"{base}/secrets")[0] == 404


def test_ready_and_healthy_are_different(base: str, pulse: Pulse) -> None:
    """A launcher without workers, or one that stops, is not ready; one whose loop hangs is not healthy."""
    pulse.workers = 0
    status, _, body = get(f"{base}/readyz")
    assert (status, json.loads(body)["problems"]) == (503, ["no worker is alive"])
    assert get(f"{base}/healthz")[0] == 200
    pulse.turn(1)
    pulse.stopping = True
    assert json.loads(get(f"{base}/readyz")[2])["problems"] == ["stopping"]
    pulse.last_turn -= 1_000
    assert get(f"{base}/healthz")[0] == 503


def test_without_redis_the_launcher_still_answers(keys: Keys, pulse: Pulse) -> None:
    """With its own values."""
    with Redis(port=1, retry=Retry(NoBackoff(), 0)) as nowhere:
        pages = Pages(pulse, nowhere, keys)

        found = parsed(pages.page("/metrics").body)
        assert (found["birdfeed_workers", ()], found["birdfeed_redis_up", ()]) == (1, 0)
        assert not [name for name, _ in found if name in {"birdfeed_values_age_seconds", "birdfeed_health"}]
        assert pages.page("/readyz").status == 503
        assert pages.page("/healthz").status == 200


def test_a_port_in_use_is_bound_once_it_is_free(
    redis: Redis, keys: Keys, pulse: Pulse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a new launcher is started before the old one has exited."""
    monkeypatch.setattr("birdfeed_worker.process.http.PORT_SECONDS", 0.05)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(Pages(pulse, redis, keys), "127.0.0.1", port).start()
        assert server.port is None
        assert f"127.0.0.1:{port} is in use" in caplog.text

    eventually(lambda: server.port == port, what="it has the port")
    assert get(f"http://127.0.0.1:{port}/healthz")[0] == 200
    server.close()


def test_a_launcher_that_never_got_its_port_stops(redis: Redis, keys: Keys, pulse: Pulse) -> None:
    """It doesn't wait for the port for ever."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = Server(Pages(pulse, redis, keys), "127.0.0.1", taken.getsockname()[1]).start()
        server.close()
        assert server.port is None


def test_ready_lists_what_status_finds(base: str) -> None:
    """A finding that doesn't stop all writes of this host is listed, but the launcher is ready."""
    ready = json.loads(get(f"{base}/readyz")[2])
    assert (ready["ready"], [one["rule"] for one in ready["found"]]) == (True, ["no_worker"])


def test_this_hosts_refused_token_is_not_ready(redis: Redis, keys: Keys, pulse: Pulse) -> None:
    """Another host's refused token doesn't matter here."""
    for number, host in enumerate(("elsewhere", socket.gethostname())):
        redis.sadd("rq:workers:birdfeed", f"rq:worker:w{number}")
        redis.hset(f"rq:worker:w{number}", "state", "idle")
        note = json.dumps({"host": host, "reason": "HTTP 403", "since": 1.0})
        redis.hset(keys.birdfeed("refused"), f"llm_events w{number}", note)
        page = Pages(pulse, redis, keys).page("/readyz")
        assert page.status == (503 if number else 200)
    assert json.loads(page.body)["problems"] == ["llm_events refuses this host's token: HTTP 403"]
    shown = parsed(Pages(pulse, redis, keys).page("/metrics").body)
    assert shown["birdfeed_token_refused_workers", (("datasource", "llm_events"), ("host", "elsewhere"))] == 1


def test_every_rule_is_a_series(redis: Redis, keys: Keys) -> None:
    """At 0 from the start, so that an alert can be written for each."""
    found = parsed(expose(of_queue(redis, keys)))

    assert {rule.name: found["birdfeed_problem", (("rule", rule.name),)] for rule in RULES} == {
        rule.name: float(rule.name == "no_worker") for rule in RULES
    }
    assert found["birdfeed_redis_memory_bytes", (("kind", "used"),)] > 100_000


def test_failed_tier_lookups_are_in_a_metric(
    redis: Redis, keys: Keys, valkey_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """From the source through a wired worker to its pool's counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    monkeypatch.setenv("TINYBIRD_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("TINYBIRD_TOKEN", "p.x")
    monkeypatch.setenv("BIRDFEED_TIERS", "redis:tiers")
    redis.set("tiers", "no hash")
    worker = make_worker(WorkerSettings.load(), "p-1", Clock())

    worker._delivery.enricher.lookup.look_up(["u1", "u2"])

    def counted() -> float:
        worker._delivery.counters.count(count_outcomes([]))
        return read_pool(redis, keys, "p").get(("birdfeed_tier_lookup_failures_total", "error"), 0)

    # On a slow machine the answer is late, and its failure is counted then.
    assert eventually(counted, what="the failures in the pool's counts") == 2


def test_a_redis_that_hangs_keeps_the_last_values(
    redis: Redis, keys: Keys, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their age, within a page's time limit; the health page says that Redis doesn't answer."""
    monkeypatch.setattr("birdfeed_worker.process.http.KEEP_SECONDS", -1.0)
    accept(redis, keys, events(2))
    pages, hang = Pages(pulse, redis, keys), threading.Event()
    pages.page("/metrics")

    def hangs(*args: Any) -> float:
        hang.wait()
        return 0.0

    monkeypatch.setattr("birdfeed_worker.process.http.redis_time", hangs)
    monkeypatch.setattr("birdfeed_worker.process.http.LOOK_SECONDS", 0.05)
    try:
        found = parsed(pages.page("/metrics").body)
        ready = json.loads(pages.page("/readyz").body)
    finally:
        hang.set()

    assert found["birdfeed_redis_up", ()] == 0
    assert found["birdfeed_events_accepted_total", (("event_type", "text_generation"),)] == 2
    assert found["birdfeed_values_age_seconds", ()] > 0.04
    assert ready["problems"] == ["Redis doesn't answer: it took more than 0.05 s"]


def test_the_pages_recover_with_redis(
    redis: Redis, keys: Keys, pulse: Pulse, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed read doesn't affect the next one; a bug of our own is not reported as an outage of Redis."""
    monkeypatch.setattr("birdfeed_worker.process.http.KEEP_SECONDS", -1.0)
    pages = Pages(pulse, redis, keys)

    def fails(*args: Any) -> float:
        raise errors.pop()

    errors: list[Exception] = [ValueError("ours"), RedisError("x")]
    with monkeypatch.context() as patch:
        patch.setattr("birdfeed_worker.process.http.redis_time", fails)
        assert parsed(pages.page("/metrics").body)["birdfeed_redis_up", ()] == 0
        assert pages.page("/metrics").status == 500
        assert "ValueError: ours" in caplog.text
    assert parsed(pages.page("/metrics").body)["birdfeed_redis_up", ()] == 1
