"""Check this process's settings, its spool, and the Redis that its events go to. Nothing is written to Redis."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from birdfeed_schemas.safety.redis_facts import redis_facts
from birdfeed_schemas.safety.untrusted import redis_error
from birdfeed_schemas.safety.urls import shown
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.tables.pages import page
from birdfeed_schemas.tables.variables import unknown_variables
from birdfeed_schemas.wire.keys import SILENT_SECONDS, Keys
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from birdfeed.checks.findings import Check
from birdfeed.errors import ConfigurationError
from birdfeed.options import Options, options_from
from birdfeed.transport.connection import Credentials, connect

#: Seconds for each answer of Redis, at most.
ANSWER_SECONDS: Final = 1.5
#: File systems that a file can be open on from several hosts. SQLite's log needs memory that all its processes share.
_NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"}
    | {"fuse.gcsfuse", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"}
)
#: Linux's table of mounts.
_MOUNTS: Final = Path("/proc/self/mounts")


def variables(environment: Mapping[str, str]) -> Iterator[Check]:
    """BIRDFEED_* variables that are not settings; most are misspelt."""
    for name, near in sorted(unknown_variables(environment).items()):
        advice = f"did you mean {near}?" if near else "unset it; `birdfeed settings` lists the settings"
        yield Check(name="settings", state="warning", found=f"{name} is not a birdfeed setting", advice=advice)


def look(options: Options, credentials: Credentials | None = None) -> Iterator[Check]:
    """What a process with these options would do with its events."""
    if not options.enabled:
        yield Check(
            name="sends",
            state="wrong",
            found="telemetry is turned off (BIRDFEED_ENABLED=false): no event is sent",
            advice="unset BIRDFEED_ENABLED to send",
        )
        return
    if options.redis_url is None:
        yield Check(
            name="sends",
            state="wrong",
            found="no Redis is configured, so telemetry is off: no event is sent",
            advice="set BIRDFEED_REDIS_URL (or REDIS_URL), such as redis://localhost:6379/0, or start `birdfeed up`",
        )
        return
    yield Check(name="sends", state="ok", found=_sends(options))
    yield _spool(options)
    yield from _redis(options, options.redis_url, credentials)


def _sends(options: Options) -> str:
    hashed = ", ".join(sorted(options.hmac_fields)) if options.user_hmac_key else ""
    parts = [
        f"events go to {shown(options.redis_url or '')} (from {options.redis_source}), queue {options.queue!r}",
        f"hashed: {hashed}" if hashed else "users are sent unhashed",
        f"error messages: {options.error_message}",
        f"referrers: {options.referrer}",
    ]
    if options.extra_fields:
        parts.append(f"extra fields: {', '.join(sorted(options.extra_fields))}")
    if options.sample:
        shares = ", ".join(f"{rate:g} of {event_type}" for event_type, rate in sorted(options.sample.items()))
        parts.append(f"sampled: {shares}" + (", errors too" if options.sample_errors else ", but all errors"))
    return "; ".join(parts)


def _spool(options: Options) -> Check:
    """Whether events can wait on disk here."""
    if options.spool_bytes == 0:
        return Check(
            name="spool",
            state="warning",
            found="the spool is off (BIRDFEED_SPOOL_BYTES=0): while Redis is unreachable, events wait in memory only",
            advice="unset BIRDFEED_SPOOL_BYTES, unless this host has no disk",
        )
    folder = options.spool_directory
    there = next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check(
            name="spool",
            state="warning",
            found=f"this user can't write to the spool's folder {folder}: events are lost while Redis is unreachable",
            advice="set BIRDFEED_SPOOL_DIR to a folder that this user owns, on a disk that outlives the process",
        )
    if (kind := _file_system(there.resolve())) in _NETWORK:
        return Check(
            name="spool",
            state="warning",
            found=f"the spool's folder {folder} is on a network file system ({kind}), which can damage it",
            advice="set BIRDFEED_SPOOL_DIR to a folder on a disk of this host",
        )
    return Check(name="spool", state="ok", found=f"while Redis is unreachable, events wait in {folder}")


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on; "" where the system has no table of mounts."""
    try:
        mounts = [line.split(" ") for line in _MOUNTS.read_text().splitlines()]
    except OSError:
        return ""
    kinds = {mount[1].replace("\\040", " "): mount[2] for mount in mounts if len(mount) > 2}
    return next((kinds[str(one)] for one in (folder, *folder.parents) if str(one) in kinds), "")


def _redis(options: Options, url: str, credentials: Credentials | None) -> Iterator[Check]:
    place = shown(url)
    try:
        client = connect(url, timeout=min(options.redis_timeout, ANSWER_SECONDS), credentials=credentials)
    except ValueError as error:
        yield Check(name="redis", state="wrong", found=str(error), advice=f"correct {options.redis_source}")
        return
    keys = Keys(options.key_prefix, options.queue)
    with closing(client):
        try:
            client.ping()
            yield from _facts(client, place)
            yield _pool(client, keys)
        except AuthenticationError:
            yield Check(
                name="redis",
                state="wrong",
                found=f"Redis at {place} refuses the user or password",
                advice=f"correct them in {options.redis_source}; percent-encode / ? # @ [ ] in them",
            )
        except RedisError as error:
            yield Check(
                name="redis",
                state="down",
                found=f"Redis at {place} doesn't answer ({redis_error(error)})",
                advice=f"start it, or correct {options.redis_source}; until then events wait in the spool",
            )


def _facts(client: Redis, place: str) -> Iterator[Check]:
    facts = redis_facts(client)
    if facts.unsuitable:
        yield Check(name="redis", state="wrong", found=facts.unsuitable, advice="use a Redis or Valkey that meets this")
    elif _is_replica(client):
        yield Check(
            name="redis",
            state="wrong",
            found=f"Redis at {place} is a replica, which takes no events",
            advice="use the URL of the primary, or of Sentinel",
        )
    else:
        yield Check(name="redis", state="ok", found=f"Redis at {place} answers")
    for warning in facts.warnings:
        advice = f"change Redis's configuration: {page('Run workers')}"
        yield Check(name="redis", state="warning", found=warning, advice=advice)
    for note in facts.notes:
        yield Check(name="redis", state="unknown", found=note)


def _is_replica(client: Redis) -> bool:
    try:
        role: Any = client.execute_command("ROLE")
    except ResponseError:  # forbidden by an ACL: not known, so not claimed
        return False
    return bool(role) and role[0] in (b"slave", "slave")


def _pool(client: Redis, keys: Keys) -> Check:
    try:
        now = client.time()[0]  # hosts' clocks may differ; workers' heartbeats use Redis's
        alive = sum(_beats(client, name, now) for name in client.smembers(f"{keys.prefix}:workers:{keys.queue}"))
    except ResponseError:
        return Check(
            name="pool",
            state="unknown",
            found="this Redis user is not allowed to read the workers' keys",
            advice="run `birdfeed doctor` with the workers' settings",
        )
    if not alive:
        return Check(
            name="pool",
            state="down",
            found=f"no worker serves the queue {keys.queue!r}: events wait in Redis",
            advice="start `birdfeed worker` with the same BIRDFEED_REDIS_URL, BIRDFEED_QUEUE and BIRDFEED_KEY_PREFIX",
        )
    return Check(
        name="pool", state="ok", found=f"{counted(alive, 'worker serves', 'workers serve')} the queue {keys.queue!r}"
    )


def _beats(client: Redis, worker: bytes | str, now: float) -> bool:
    """Whether a worker's last heartbeat is recent."""
    told = client.hget(worker, "last_heartbeat") or b""
    try:
        beat = datetime.fromisoformat(told.decode() if isinstance(told, bytes) else told)
        return now - beat.timestamp() < SILENT_SECONDS
    except ValueError:
        return False


def check_process(options: Options | None, credentials: Credentials | None) -> list[Check]:
    """All checks that can be made from this process; with `options` None, for the settings in the environment."""
    found = list(variables(os.environ))
    try:
        return [*found, *look(options if options is not None else options_from(os.environ), credentials)]
    except ConfigurationError as error:
        return [*found, wrong_settings(error)]


def wrong_settings(error: Exception) -> Check:
    """The finding for settings that can't be read; nothing else can be checked then."""
    return Check(
        name="settings",
        state="wrong",
        found=f"invalid settings, so telemetry is off: {error}",
        advice="correct them; `birdfeed settings` shows each with its source",
    )
