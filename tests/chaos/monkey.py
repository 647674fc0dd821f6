"""A seeded schedule of faults: what breaks, when, for how long; the same seed gives the same schedule."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from redis.exceptions import RedisError

from tests.support.producer.apps.run import Server
from tests.support.servers.failover import Cluster
from tests.support.servers.system import System
from tests.support.servers.traffic import ODD_MODEL
from tests.support.wait import pause
from tests.support.worker import odd_jobs
from tests.support.worker.skewed_clock import skewed

#: Faults of the store, each with the switches of the sandbox. Late commits come before settle_seconds (SETTLE).
SETTLE = 4.0
STORE_FAULTS: dict[str, dict[str, Any]] = {
    "outage": {"outage": True},
    "slow": {"delay_seconds": 1.5},
    "slow answer": {"answer_delay_seconds": 1.5},
    "429": {"status": 429, "retry_after": 1},
    "503": {"status": 503},
    "500": {"status": 500},
    "502": {"status": 502},
    "408": {"status": 408},
    "403": {"auth": 403},
    "404": {"status": 404},
    "413 above 20 kB": {"max_body_bytes": 20_000},
    "written, then 500": {"commit_then_status": 500},
    "written, then 504": {"commit_then_status": 504},
    "written, then silence": {"commit_then_hang": 8},
    "written after the client gave up": {"late_commit_seconds": 2.0, "late_commit_status": 504},
    "202 and lost": {"vanish": 202},
    "short count, all written": {"short_count": 1},
    "reset before": {"reset": "before"},
    "reset after": {"reset": "after"},
    "reset in the answer": {"reset_mid_answer": True},
    "not JSON": {"not_json": True},
    "half of them fail": {"status": 500, "probability": 0.5, "seed": 3},
    "422 partly written": {"partly_written": 0.5},
    "401": {"status": 401},
    "rate limit": {"rate_limit": 2},
    "short count, the rest lost": {"short_count": 1, "short_count_writes": "counted"},
    "reads fail": {"status": 500, "on": "reads"},
    "read quota used up": {"read_quota": 0, "retry_after": 1},
    # These two refuse rows, as they should: the traffic's rows with the odd model.
    "400 for some rows": {"status": 400, "poison": f'"model":"{ODD_MODEL}"'},
    "some rows quarantined": {"quarantine_rows": {"path": "$.model", "equals": ODD_MODEL}},
}


#: What answers in Tinybird's place, to writes and queries: before the write, so that nothing is written, or after it.
ODD_ANSWERS: dict[str, dict[str, Any]] = {
    "a login page in UTF-16": {
        "status": 200,
        "headers": {"Content-Type": "text/html; charset=utf-16"},
        "body": "<html>log in",
        "on": "all",
    },
    "redirects": {"status": 302, "headers": {"Location": "https://elsewhere.invalid/"}, "body": "", "on": "all"},
    "JSON of another shape": {"status": 200, "body": '{"data":null,"meta":[{}]}', "on": "all"},
    "written, then UTF-16": {"odd_answer": "charset", "on": "all"},
    "written, then a gzip bomb": {"odd_answer": "bomb", "on": "all"},
    "written, then a body that drips": {"odd_answer": "drip", "on": "all"},
    "written, then JSON of another shape": {"odd_answer": "shape", "on": "all"},
    "written, then a redirect": {"odd_answer": "redirect", "on": "all"},
}

#: The event type of malformed jobs, and which of them can't be read at all.
ODD_TYPE = "odd"
UNREADABLE = ("event_type is a list", "attempts is text, its event invalid", "version is an object", "a million lines",
              "nothing", "a pickle")  # fmt: skip


class Monkey:
    """Breaks parts at random and repairs them: the store for a while, and something else in the meantime.

    Args:
        seed: Seed of the schedule.
        system: What to break.
        redis: The system's Redis, to be killed and restarted, or a cluster whose master changes; None: no faults of
            Redis.
        processes: Workers of each pool it starts.
        ordered: Whether failovers are also ordered that the master does not know of.
    """

    def __init__(
        self, seed: int, system: System, redis: Server | Cluster | None, processes: int = 2, *, ordered: bool = False
    ) -> None:
        self.draw = random.Random(seed)
        self.system = system
        self.redis = redis
        self.processes = processes
        self.done: Counter[str] = Counter()
        self._store_acts = 0  # for how many more faults the store stays broken
        self.odd_jobs = 0
        #: Start and end (epoch s) of each failover.
        self.failovers: list[tuple[float, float]] = []
        self.acts: list[tuple[int, Callable[[], str]]] = [
            (8, self.kill_worker),
            (4, self.terminate_worker),
            (1, self.kill_launcher),
            (1, self.terminate_launcher),
            (10, self.break_store),
            (4, self.answer_oddly),
            (3, self.put_odd_job),
        ]
        if isinstance(redis, Cluster):
            self.acts += [(3, self.kill_master), (2, self.hang_master), (2, self.hand_over), (2, self.freeze_redis)]
            if ordered:
                self.acts += [(3, self.order_failover)]
        elif redis is not None:
            self.acts += [(1, self.kill_redis), (1, self.freeze_redis), (2, self.fill_redis)]

    def act(self) -> str:
        """Cause one fault; returns its name."""
        if self._store_acts:
            self._store_acts -= 1
            if not self._store_acts:
                self.system.sandbox.clear_faults()
        weights = [weight for weight, _ in self.acts]
        said = self.draw.choices([act for _, act in self.acts], weights)[0]()
        self.done[said] += 1
        return said

    def kill_worker(self) -> str:
        """kill -9 of a worker."""
        return self._signal_worker(signal.SIGKILL)

    def terminate_worker(self) -> str:
        """SIGTERM of a worker."""
        return self._signal_worker(signal.SIGTERM)

    def _signal_worker(self, signum: signal.Signals) -> str:
        pids = sorted(self.system.workers().values())
        if pids:
            with suppress(ProcessLookupError):
                os.kill(self.draw.choice(pids), signum)
        pause(self.draw.uniform(0.1, 1.0))
        return f"{signum.name} a worker"

    def kill_launcher(self) -> str:
        """kill -9 of the launcher; another one is started while its workers may still run."""
        pool = self.system.pools[-1]
        pool.kill()
        pool.wait()
        self._start_pool()
        return "SIGKILL the launcher"

    def _start_pool(self) -> None:
        """Start another pool, on a host whose clock may be ten minutes wrong."""
        skew = self.draw.choice([0, 0, 600, -600])
        self.system.start_pool(self.processes, wait=False, environment=skewed(self.system.folder, skew))

    def terminate_launcher(self) -> str:
        """SIGTERM of the launcher, as a deploy does."""
        pool = self.system.pools[-1]
        pool.terminate()
        self._start_pool()
        pool.wait(180)
        # One that was only just started has no handler yet, and no worker either.
        assert pool.returncode in (0, -signal.SIGTERM), f"the launcher ended with {pool.returncode}"
        return "SIGTERM the launcher"

    def break_store(self) -> str:
        """One of the store's faults, for a while, or for the next few faults."""
        return self._break_store(STORE_FAULTS)

    def answer_oddly(self) -> str:
        """Let the store give invalid answers for a while."""
        return self._break_store(ODD_ANSWERS)

    def _break_store(self, faults: Mapping[str, Mapping[str, Any]]) -> str:
        name = self.draw.choice(sorted(faults))
        only = self.draw.choice([None, None, "llm_events", "image_events"])
        self.system.sandbox.fault(**faults[name], **({} if only is None else {"datasource": only}))
        pause(self.draw.uniform(0.3, 2.0))
        self._store_acts = max(self._store_acts, self.draw.choice([0, 0, 1, 3]))
        if not self._store_acts:
            self.system.sandbox.clear_faults()
        return f"store: {name}" + (f", and for {self._store_acts} acts more" if self._store_acts else "")

    def put_odd_job(self) -> str:
        """Put an unreadable job at the queue's front, counted as a producer does; only it is dead-lettered."""
        name = self.draw.choice(UNREADABLE)
        job_id = f"odd-{self.odd_jobs}"
        with suppress(RedisError):  # Redis may be away or full, or read-only during a failover
            odd_jobs.put(
                self.system.redis, self.system.keys, job_id, data=odd_jobs.DEADLY[name](), bf_type=ODD_TYPE, front=True
            )
            self.odd_jobs += 1
        return "a malformed job"

    def fill_redis(self) -> str:
        """Redis is full for a while: producers use their spool, workers continue."""
        with self.system.redis_config(maxmemory=1):
            pause(self.draw.uniform(0.5, 2.0))
        return "Redis is full"

    def kill_redis(self) -> str:
        """kill -9 of Redis, and its restart from the append-only file."""
        assert isinstance(self.redis, Server)
        self.redis.kill()
        pause(self.draw.uniform(0.1, 1.5))
        self.redis.start()
        return "SIGKILL Redis"

    def freeze_redis(self) -> str:
        """Redis accepts bytes and answers nothing, for less time than a failover needs."""
        assert self.redis is not None
        cluster = isinstance(self.redis, Cluster)
        with self.redis.master().frozen() if isinstance(self.redis, Cluster) else self.redis.frozen():
            pause(self.draw.uniform(0.2, 1.0) if cluster else self.draw.uniform(0.5, 2.0))
        return "Redis hangs"

    # ---- the master changes; each failover is complete before the next fault, as Sentinel can't handle two at once

    @contextmanager
    def _failover(self) -> Iterator[tuple[Cluster, Server]]:
        """A complete cluster and its master; waits afterwards until another one is master and it is complete again."""
        assert isinstance(self.redis, Cluster)
        self.redis.whole()
        before, old = time.time(), self.redis.master()
        yield self.redis, old
        self.redis.switched(old)
        pause(self.draw.uniform(0.1, 1.5))
        self.redis.mend()
        self.failovers.append((before, time.time()))

    def kill_master(self) -> str:
        """kill -9 of the master, and its restart as a replica."""
        with self._failover() as (_, old):
            old.kill()
        return "SIGKILL the master"

    def hang_master(self) -> str:
        """The master hangs until another server is master, and then continues."""
        with self._failover() as (cluster, old), old.frozen():
            cluster.switched(old)
        return "the master hangs until a failover"

    def hand_over(self) -> str:
        """The master hands over to a replica that has all its data."""
        with self._failover() as (cluster, _):
            cluster.order_failover(coordinated=True)
        return "coordinated failover"

    def order_failover(self) -> str:
        """A replica is promoted while the old master, which is not told, continues to run."""
        with self._failover() as (cluster, _):
            cluster.order_failover()
        return "ordered failover"
