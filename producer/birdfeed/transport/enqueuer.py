"""Put batches into Redis as rq jobs, each exactly once, however often it is tried.

One script writes a batch's job, its queue entry and its count in the ledger together, and does nothing if the job
exists or the batch was settled before. It writes the job without rq: rq needs two round trips, reads its key prefix
from the environment, and takes 30 ms to import in a handler's process. A test compares the job's fields with rq's own.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from birdfeed_schemas.wire.accounts import ACCOUNT_LUA
from birdfeed_schemas.wire.keys import BYTES_FIELD, EVENTS_FIELD, TYPE_FIELD, Keys
from redis import Redis
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoScriptError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from birdfeed.encoding.batch import PackedBatch
from birdfeed.encoding.encoder import now_text

#: Seconds for which rq lets a job run.
JOB_TIMEOUT: Final = 180
#: Seconds for which rq keeps a finished job. Not 0: rq's clean-up would then raise after the work has succeeded, and
#: the job would fail.
RESULT_TTL: Final = 60
#: Failed jobs are dead letters: they stay until they are replayed or purged, because rq's expiry is silent.
FAILURE_TTL: Final = -1
#: rq counts a retry for each lost worker; birdfeed gives up a batch by its age, not by this number.
RETRIES: Final = 1_000_000
#: Seconds for which Redis remembers that a drop report was counted.
REPORT_TTL: Final = 86_400
#: Seconds after which a heartbeat expires.
HEARTBEAT_TTL: Final = 60

# Redis doesn't roll back scripts, so if a later step fails, the script undoes what it wrote; the commands for that were
# just allowed on the same keys. The job comes last, because a second try does nothing if the job exists; workers skip a
# queue entry without a job. SADD is only for `rq info`.
_ENQUEUE: Final = f"""{ACCOUNT_LUA}
if redis.call('EXISTS', KEYS[1], KEYS[4]) > 0 then return 0 end
redis.call('RPUSH', KEYS[2], ARGV[1])
local accepted = 'accepted:' .. account(KEYS[5], ARGV[2])
local counted = redis.pcall('HINCRBY', KEYS[5], accepted, ARGV[3])
if type(counted) == 'table' and counted.err then
  redis.pcall('LREM', KEYS[2], -1, ARGV[1])
  return counted
end
redis.pcall('SADD', KEYS[3], KEYS[2])
local stored = redis.pcall('HSET', KEYS[1], unpack(ARGV, 4))
if type(stored) == 'table' and stored.err then
  redis.call('HINCRBY', KEYS[5], accepted, -ARGV[3])
  redis.pcall('LREM', KEYS[2], -1, ARGV[1])
  return stored
end
return 1
"""

# A hash per process, and an index by Redis's own clock, so that readers need not scan for them.
_HEARTBEAT: Final = """
local now = tonumber(redis.call('TIME')[1])
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'beat_at', now, unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
"""

_REPORT: Final = f"""{ACCOUNT_LUA}
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
for i = 2, #ARGV, 3 do
  local name = account(KEYS[2], ARGV[i])
  redis.call('HINCRBY', KEYS[2], 'accepted:' .. name, ARGV[i + 2])
  redis.call('HINCRBY', KEYS[2], 'dropped:' .. name .. ':' .. ARGV[i + 1], ARGV[i + 2])
end
return 1
"""


class Outcome(enum.Enum):
    """The result of sending a batch."""

    #: It is in Redis: since now (ACCEPTED), or since an earlier try (KNOWN).
    ACCEPTED = "accepted"
    KNOWN = "known"
    #: It is not in Redis.
    REFUSED = "refused"
    #: It may be in Redis: the answer was lost, or too few replicas had it in time.
    UNKNOWN = "unknown"

    @property
    def delivered(self) -> bool:
        """Whether Redis has the batch."""
        return self in (Outcome.ACCEPTED, Outcome.KNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The outcome of each batch, in order, and the first error, if any."""

    outcomes: Sequence[Outcome]
    error: Exception | None = None


class Enqueuer:
    """Writes jobs and reports to one Redis."""

    def __init__(self, client: Redis, keys: Keys, *, wait_replicas: int = 0, timeout: float = 1.0) -> None:
        """`timeout` is the time for one answer in seconds; with `wait_replicas`, replicas may take half of it."""
        self._client = client
        self._keys = keys
        self._wait_replicas = wait_replicas
        # Half the time for one answer, because WAIT is part of that answer.
        self._wait_milliseconds = max(1, int(timeout * 500))
        self._enqueue = client.register_script(_ENQUEUE)
        self._report = client.register_script(_REPORT)
        self._heartbeat = client.register_script(_HEARTBEAT)

    def enqueue(self, batches: Sequence[PackedBatch]) -> Answer:
        """Send batches in one round trip. Never raises for errors of Redis or the network."""
        if error := self._unreachable():
            return Answer(outcomes=[Outcome.REFUSED] * len(batches), error=error)
        pipeline = self._client.pipeline(transaction=False)
        for batch in batches:
            pipeline.evalsha(self._enqueue.sha, 5, *self._arguments(batch))
        if self._wait_replicas:
            # WAIT waits for this connection's last write, and a batch that Redis already has writes nothing.
            pipeline.set(self._keys.birdfeed("replicated"), "1", ex=REPORT_TTL)
            pipeline.execute_command("WAIT", self._wait_replicas, self._wait_milliseconds)
        try:
            results: list[Any] = pipeline.execute(raise_on_error=False)
            self._load_and_repeat(batches, results)
        except (BusyLoadingError, AuthenticationError, AuthorizationError) as error:
            return Answer(outcomes=[Outcome.REFUSED] * len(batches), error=error)
        except (RedisConnectionError, RedisTimeoutError, OSError) as error:
            return Answer(outcomes=[Outcome.UNKNOWN] * len(batches), error=error)
        return self._read(results, len(batches))

    def report(self, report_id: str, drops: Mapping[tuple[str, str], int]) -> Exception | None:
        """Add drops, by (event type, reason), to the ledger, once per `report_id`; returns the error if that failed."""
        arguments: list[str | int] = [REPORT_TTL]
        for (event_type, reason), events in drops.items():
            arguments += [event_type, reason, events]
        try:
            self._report(keys=[self._keys.done(report_id), self._keys.ledger], args=arguments)
        except Exception as error:  # the caller logs it and keeps the report
            return error
        return None

    def heartbeat(self, producer_id: str, fields: Mapping[str, str | int | float]) -> Exception | None:
        """Write a process's heartbeat, which lasts HEARTBEAT_TTL seconds; returns the error if that failed."""
        arguments: list[str | int | float] = [producer_id, HEARTBEAT_TTL]
        for name, value in fields.items():
            arguments += [name, value]
        try:
            self._heartbeat(keys=[self._keys.producer(producer_id), self._keys.producers], args=arguments)
        except Exception as error:  # the caller continues without it
            return error
        return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _unreachable(self) -> Exception | None:
        """The error if there is no working connection. Checked first, because then nothing was sent for certain."""
        pool = self._client.connection_pool
        try:
            pool.release(pool.get_connection())
        except Exception as error:  # a name that doesn't resolve, a credentials hook that raises, TLS, ...
            return error
        return None

    def _arguments(self, batch: PackedBatch) -> list[str | bytes | int]:
        keys = self._keys
        arguments: list[str | bytes | int] = [
            keys.job(batch.id),
            keys.queue_list,
            keys.queues,
            keys.done(batch.id),
            keys.ledger,
            batch.id,
            batch.event_type,
            batch.events,
        ]
        for name, value in job_fields(batch, keys.queue).items():
            arguments += [name, value]
        return arguments

    def _load_and_repeat(self, batches: Sequence[PackedBatch], results: list[Any]) -> None:
        """If Redis didn't know the script (after a restart or failover), load it and send those batches again."""
        missing = [at for at, result in enumerate(results) if isinstance(result, NoScriptError)]
        if not missing:
            return
        pipeline = self._client.pipeline(transaction=False)
        pipeline.script_load(_ENQUEUE)
        for at in missing:
            pipeline.evalsha(self._enqueue.sha, 5, *self._arguments(batches[at]))
        if self._wait_replicas:
            pipeline.execute_command("WAIT", self._wait_replicas, self._wait_milliseconds)
        again = pipeline.execute(raise_on_error=False)
        for at, result in zip(missing, again[1:], strict=False):
            results[at] = result
        if self._wait_replicas:
            results[-1] = again[-1]

    def _read(self, results: list[Any], batches: int) -> Answer:
        outcomes: list[Outcome] = []
        error: Exception | None = None
        for result in results[:batches]:
            if isinstance(result, Exception):
                outcomes.append(Outcome.REFUSED)
                error = error or result
            else:
                outcomes.append(Outcome.ACCEPTED if result else Outcome.KNOWN)
        if self._wait_replicas:
            replicas = 0 if isinstance(results[-1], Exception) else results[-1]
            if replicas < self._wait_replicas:
                error = error or NotReplicatedError(
                    f"{replicas} of {self._wait_replicas} replicas had the batches in time"
                )
                outcomes = [Outcome.UNKNOWN if outcome.delivered else outcome for outcome in outcomes]
        return Answer(outcomes=outcomes, error=error)


class NotReplicatedError(Exception):
    """Fewer replicas than wait_replicas had the batches in time."""


def job_fields(batch: PackedBatch, queue: str) -> dict[str, str | bytes | int]:
    """The hash of a batch's job: the fields that rq writes for a newly enqueued job, and birdfeed's own."""
    now = now_text()
    return {
        "created_at": now,
        "enqueued_at": now,
        "data": batch.data,
        "success_callback_name": "",
        "failure_callback_name": "",
        "stopped_callback_name": "",
        "started_at": "",
        "ended_at": "",
        "last_heartbeat": "",
        "worker_name": "",
        "group_id": "",
        "retries_left": RETRIES,
        "origin": queue,
        "description": f"birdfeed: {batch.events} {batch.event_type}",
        "timeout": JOB_TIMEOUT,
        "result_ttl": RESULT_TTL,
        "failure_ttl": FAILURE_TTL,
        "status": "queued",
        EVENTS_FIELD: batch.events,
        TYPE_FIELD: batch.event_type,
        BYTES_FIELD: batch.size,
    }
