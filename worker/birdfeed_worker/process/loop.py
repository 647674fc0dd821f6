"""The worker: an rq worker that reserves many jobs at once, delivers them together, and settles each by itself.

It keeps rq's queue, registries, worker entry (`rq info`, rq-dashboard), failed jobs and their requeueing. It does the
rest differently, because rq alone loses jobs when a worker is killed or gets SIGTERM (each measured, see
docs/explanation/decisions.md): jobs move from the queue to the started registry in one step; SIGTERM only sets a flag;
scheduled jobs are moved, and lost workers' jobs are given back, by atomic scripts that any worker may run, so that no
scheduler process is needed.
"""

import logging
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.wire.keys import Keys
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus

from birdfeed_worker.clock import Clock
from birdfeed_worker.errors import SuspendedError
from birdfeed_worker.model import NO_POISON, ReservedJob
from birdfeed_worker.pipeline.delivery import FAILED_WAIT, Delivery
from birdfeed_worker.pipeline.settle import LOGGED_IDS, Totals
from birdfeed_worker.process.heartbeat import Heartbeat
from birdfeed_worker.process.maintenance import Maintenance
from birdfeed_worker.process.poison import find_poison
from birdfeed_worker.process.presence import Presence
from birdfeed_worker.queue.kinds import named
from birdfeed_worker.queue.reserve import Reserver
from birdfeed_worker.queue.trouble import is_unavailable

log = logging.getLogger(__name__)

#: Seconds between checks for scheduled jobs that are due, and for expired leases.
PROMOTE_SECONDS: Final = 0.5
RECOVER_SECONDS: Final = 5.0
#: Longest wait at an empty queue before the stop flag is checked again, in seconds.
IDLE_WAIT: Final = 1.0
#: Seconds until the triage of suspects is repeated if it was cut short.
UNTRIED_WAIT: Final = 5.0
#: Seconds between checks whether `rq suspend` is still in force.
SUSPENDED_WAIT: Final = 1.0
#: Seconds to wait after Redis failed for longer than the client's own retries.
REDIS_DOWN_WAIT: Final = 2.0


class Worker(SimpleWorker):
    """One process of the pool.

    Args:
        name: The worker's name in rq.
        reserver, heartbeat, presence, delivery: Wired by bootstrap.py.
        clock: Its stop flag ends the loop; its time is Redis's.
        reserve_jobs, reserve_events, reserve_bytes: The most of each in one reservation.
        stopped: Returns whether no jobs may be reserved for now.
    """

    def __init__(
        self,
        connection: Redis,
        keys: Keys,
        name: str,
        *,
        reserver: Reserver,
        heartbeat: Heartbeat,
        presence: Presence,
        delivery: Delivery,
        clock: Clock,
        reserve_jobs: int,
        reserve_events: int,
        reserve_bytes: int,
        maintenance: Maintenance,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        # rq would ask Redis immediately, with CLIENT, for what this process knows (see presence.py).
        super().__init__(
            [keys.queue], name=name, connection=connection, serializer=JSONSerializer, prepare_for_work=False
        )
        self._keys = keys
        self._reserver = reserver
        self._lease_heartbeat = heartbeat
        self._presence = presence
        self._delivery = delivery
        self._clock = clock
        self._maintenance = maintenance
        self._stopped = stopped
        self._limits = {"jobs": reserve_jobs, "events": reserve_events, "size": reserve_bytes}
        self._last_promote = self._last_recover = float("-inf")

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Set the worker's state; its next heartbeat reports it."""
        self._state = self._presence.state = WorkerStatus(state).value

    def register_birth(self) -> None:
        """Send the first heartbeat; raises RedisError."""
        self._presence.beat()

    def register_death(self) -> None:
        """Give back what is in flight, and remove the worker's entry; raises RedisError.

        In this order, because rq would first delete the set by which the worker's jobs are found, and they would wait
        for the end of the lease.
        """
        # Jobs are in flight here only if the worker ends because of an error, which one of them may have caused.
        back = self._reserver.recover(self.name, died=True)
        if back:
            log.warning("%s of this worker back in the queue", counted(len(back), "job"))
        self._presence.end()

    def check_for_suspension(self, burst: bool) -> None:
        """Wait while `rq suspend` is in force; raises StopRequested in burst mode.

        rq's own method writes a heartbeat at each check, in a MULTI, which a full Redis refuses.
        """
        while not self._stop_requested and self.connection.exists(f"{self._keys.prefix}:suspended"):
            if burst:
                raise StopRequested
            if self.get_state() != WorkerStatus.SUSPENDED:
                log.warning("suspended by `rq suspend`, until `rq resume`")
                self.set_state(WorkerStatus.SUSPENDED)
            self._clock.sleep(SUSPENDED_WAIT)
        if self.get_state() == WorkerStatus.SUSPENDED:
            self.set_state(WorkerStatus.IDLE)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """On the first SIGTERM or SIGINT: finish what is in flight. It only sets a flag."""
        signal.signal(signal.SIGINT, self.request_force_stop)
        signal.signal(signal.SIGTERM, self.request_force_stop)
        self._stop_requested = True
        self._clock.stop.set()

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        """On the second signal: exit now; the launcher, or the end of the lease, gives the jobs back."""
        # Not SystemExit, which could be swallowed where it is raised.
        os._exit(1)

    def work(self, burst: bool = False, **_: Any) -> bool:  # type: ignore[override]
        """Reserve, deliver and settle until told to stop, or (`burst`) the queue is empty; True if any job was done."""
        self._install_signal_handlers()
        self._retry_until_connected(self.register_birth)
        self._lease_heartbeat.start()
        worked = False
        try:
            while not self._stop_requested:
                try:
                    jobs = self._reserve_jobs(burst)
                    if jobs:
                        worked = True
                        self._deliver(jobs)
                    elif burst:
                        break
                except RedisError as error:
                    self._wait_for_redis(error)
                except StopRequested:
                    break
        finally:
            self._lease_heartbeat.end()
            try:
                self.register_death()
            except RedisError as error:
                log.warning("can't deregister from Redis: %s", type(error).__name__)
        return worked

    def _retry_until_connected(self, register: Callable[[], None]) -> None:
        while not self._stop_requested:
            try:
                register()
                return
            except RedisError as error:
                self._wait_for_redis(error)

    def _wait_for_redis(self, error: RedisError) -> None:
        why = named(self.connection, self._keys, error)
        log.error("Redis: %s: %s; trying again", type(why).__name__, why)
        self._clock.sleep(REDIS_DOWN_WAIT)

    def _reserve_jobs(self, burst: bool) -> list[ReservedJob]:
        next_due = self._maintain()
        if self._stopped():
            if not burst:
                self._clock.sleep(IDLE_WAIT)
            return []
        try:
            jobs = self._reserver.reserve(**self._limits)
        except SuspendedError:
            self.check_for_suspension(burst)
            return []
        if jobs or burst:
            return jobs
        idle = IDLE_WAIT if next_due is None else min(IDLE_WAIT, max(0.05, next_due - self._clock.time()))
        if not self._reserver.wait(idle):
            self._clock.sleep(idle)
        return []

    def _maintain(self) -> float | None:
        now = self._clock.monotonic()
        if now - self._last_recover >= RECOVER_SECONDS:
            self._last_recover = now
            back = self._reserver.recover()
            if back:
                log.warning("%s of a lost worker back in the queue", counted(len(back), "job"))
        if now - self._last_promote >= PROMOTE_SECONDS:
            self._last_promote = now
            self._next_due = self._reserver.promote()
        self._maintenance.step()
        return self._next_due

    _next_due: float | None = None

    def _deliver(self, jobs: list[ReservedJob]) -> None:
        self._lease_heartbeat.watch(jobs)
        self.set_state(WorkerStatus.BUSY)
        try:
            totals = self._triage_and_deliver(jobs)
        except Exception as error:
            if is_unavailable(error):
                raise
            # Not even settling works. These jobs must neither end the worker nor be reserved again immediately.
            log.exception("can't deliver or settle %s; trying later", counted(len(jobs), "job"))
            self._delivery.settler.put_off(jobs, self._clock.time() + FAILED_WAIT)
            totals = Totals()
        finally:
            self._lease_heartbeat.watch([])
            self.set_state(WorkerStatus.IDLE)
        self._report(jobs, totals)

    def _triage_and_deliver(self, jobs: list[ReservedJob]) -> Totals:
        suspects = [job for job in jobs if job.suspect]
        poison = find_poison(suspects) if suspects else NO_POISON
        if poison is None:
            log.warning("can't check %s in flight when a worker crashed; trying later", counted(len(suspects), "job"))
            self._delivery.settler.put_off(suspects, self._clock.time() + UNTRIED_WAIT)
            jobs = [job for job in jobs if not job.suspect]
        elif suspects:
            log.warning(
                "%s in flight when a worker crashed: %s found",
                counted(len(suspects), "job"),
                counted(len(poison), "poison event"),
            )
        return self._delivery.deliver(jobs, poison or NO_POISON) if jobs else Totals()

    def _report(self, jobs: list[ReservedJob], totals: Totals) -> None:
        self._presence.count(len(jobs), sum(totals.dead.values()))
        log.info(
            "%s: %s written, %d dead%s, %d deferred",
            counted(len(jobs), "job"),
            counted(totals.written, "event"),
            sum(totals.dead.values()),
            f" ({', '.join(f'{reason} {n}' for reason, n in sorted(totals.dead.items()))})" if totals.dead else "",
            totals.deferred,
            extra={"batch_ids": [job.id for job in jobs[:LOGGED_IDS]], "worker": self.name},
        )
