"""`birdfeed forget`: erase one person's events from the spool, Redis and Tinybird."""

import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdfeed.delivery.spool_drain import spool_files
from birdfeed.encoding.redact import pseudonym
from birdfeed.errors import SpoolError
from birdfeed.options import Options
from birdfeed.settings import ProducerSettings
from birdfeed.spool.forget import Forgotten as Spooled
from birdfeed.spool.forget import forget as forget_spooled
from birdfeed_schemas.datafiles import datasources
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.clock import Clock
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.errors import ConfigurationError, TinybirdError
from birdfeed_worker.monitoring.producers import read_producers, read_spools
from birdfeed_worker.operations.forget import Forget, Forgotten, Person
from birdfeed_worker.queue.redis_time import redis_time
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.erase import Deletion, carry_out, deletions
from birdfeed_worker.wiring import deleter_of

from birdfeed_cli.common.confirm import confirm, must_be_answerable
from birdfeed_cli.common.console import OK, PARTLY, out, print_json
from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.store_access import open_store


@dataclass(slots=True)
class Found:
    """A person's events that were found or erased, by place. `tinybird_unknown` says why Tinybird was not asked."""

    spool: Spooled = field(default_factory=Spooled)
    unreadable_spools: list[Path] = field(default_factory=list)
    redis: Forgotten = field(default_factory=Forgotten)
    other_spools: dict[str, int] = field(default_factory=dict)
    deletions: list[Deletion] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    tinybird_unknown: str = ""

    @property
    def events(self) -> int:
        """Events in the spool and in Redis."""
        return self.spool.events + self.redis.events


def run_forget(user: str, *, dry_run: bool, execute: bool, yes: bool, as_json: bool) -> int:
    """Show a person's events, ask, and erase them. Exit code 1 if something remains to be done."""
    options = ProducerSettings.with_dotenv().options()
    settings = WorkerSettings.load()
    if not dry_run:
        must_be_answerable(yes=yes, as_json=as_json)
    person = person_of(_named(user), options)
    deleter = deleter_of(settings) if execute else None
    if execute and deleter is None:
        raise WrongUse("--execute needs TINYBIRD_DELETE_TOKEN (or its file): a token with the scope DATASOURCES:CREATE")
    connection, keys = open_redis()
    seen = _look(connection, keys, person, options, settings)
    if dry_run:
        return _tell(seen, settings, dry_run=True, as_json=as_json)
    if not as_json and not yes:
        for line in _lines(seen):
            out.print(line)
    rows = sum(one.rows for one in seen.deletions) if execute else 0
    confirm(f"Erase {counted(seen.events, 'event')} and {counted(rows, 'row')} permanently?", yes=yes)
    done = Found(other_spools=seen.other_spools)
    # In the direction of the data: events that move in the meantime are found in the next place.
    _spool(done, options, person, dry_run=False)
    done.redis = Forget(connection, keys, person).run()
    _rows(done, person, settings)
    if deleter is not None:
        with deleter:
            done.states = {one.table: carry_out(deleter, one, Clock()) for one in done.deletions if one.rows}
    redis = done.redis
    note(
        connection,
        keys,
        "forget",
        spool=done.spool.events,
        queue=redis.queued,
        scheduled=redis.scheduled,
        dead=redis.dead,
        in_flight=redis.in_flight,
        rows=sum(one.rows for one in done.deletions if done.states.get(one.table) == "done"),
    )
    return _tell(done, settings, dry_run=False, as_json=as_json)


def person_of(user: str, options: Options) -> Person:
    """The values that a person's events and rows can have: the name as given, and its HMAC if there is a key."""
    # Stored values are cut to the limit on texts, and an HMAC is computed from the cut value.
    values = {user, user[: options.max_text], user[:512]}
    if options.user_hmac_key:
        key = options.user_hmac_key.encode()
        values |= {pseudonym(key, value) for value in values}
    return Person(frozenset(values))


def _named(user: str) -> str:
    """The name as given, or the first line of standard input, which other users of the machine can't see."""
    name = sys.stdin.readline().rstrip("\r\n") if user == "-" else user
    if not name or name.encode(errors="replace").decode() != name:
        raise WrongUse("give the person's id or name as text, raw or as it is stored; - reads it from standard input")
    return name


def _look(connection: Any, keys: Any, person: Person, options: Options, settings: WorkerSettings) -> Found:
    found = Found(redis=Forget(connection, keys, person, dry_run=True).run())
    _spool(found, options, person, dry_run=True)
    here = socket.gethostname()
    spools = read_spools(connection, keys, read_producers(connection, keys), redis_time(connection))
    found.other_spools = {spool.host: spool.events for spool in spools if spool.host != here}
    _rows(found, person, settings)
    return found


def _rows(found: Found, person: Person, settings: WorkerSettings) -> None:
    try:
        with open_store(settings) as store:
            found.deletions = list(deletions(store, list(datasources()), person.values))
    except (ConfigurationError, TinybirdError) as error:
        found.tinybird_unknown = str(error)


def _spool(found: Found, options: Options, person: Person, *, dry_run: bool) -> None:
    files, damaged = spool_files(options)
    found.unreadable_spools = list(damaged)
    for path in files:
        try:
            one = forget_spooled(path, person.owns, dry_run=dry_run)
        except SpoolError:
            found.unreadable_spools.append(path)
            continue
        found.spool.events += one.events
        found.spool.being_sent += one.being_sent
        found.spool.unreadable += one.unreadable


def _counts(found: Found) -> dict[str, Any]:
    return {
        "spool": found.spool.events,
        "queue": found.redis.queued,
        "scheduled": found.redis.scheduled,
        "dead": found.redis.dead,
        "log_entries": found.redis.log_entries,
    }


def _lines(found: Found) -> Sequence[str]:
    counts = _counts(found)
    names = ("this host's spool", "queue", "scheduled jobs", "dead letters", "entries of the log of dead letters")
    lines = [f"{name}: {count:,}" for name, count in zip(names, counts.values(), strict=True)]
    return lines + [f"Tinybird, {one.table}: {counted(one.rows, 'row')}" for one in found.deletions]


def _remaining(found: Found) -> list[str]:
    """What is not erased, one sentence each."""
    said = []
    if flying := found.redis.in_flight + found.spool.being_sent:
        in_flight = counted(flying, "event is", "events are")
        said.append(f"{in_flight} being sent or written: run this again in a minute")
    if unreadable := found.redis.unreadable + found.spool.unreadable:
        said.append(
            f"{counted(unreadable, 'job or batch', 'jobs or batches')} can't be read: whose events they hold is unknown"
        )
    said += [f"{path} can't be read: look at it, or delete it" for path in found.unreadable_spools]
    for host, events in found.other_spools.items():
        said.append(f"the spool of {host} holds {counted(events, 'event')} of all persons: run this there, too")
    if found.tinybird_unknown:
        said.append(f"Tinybird was not asked: {found.tinybird_unknown}")
    said += [f"the delete in {table} is {state}" for table, state in found.states.items() if state != "done"]
    return said


def _tell(found: Found, settings: WorkerSettings, *, dry_run: bool, as_json: bool) -> int:
    remaining = _remaining(found)
    open_deletions = [one for one in found.deletions if one.rows and found.states.get(one.table) != "done"]
    host = settings.tinybird_host or "$TINYBIRD_HOST"
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                **_counts(found),
                "in_flight": found.redis.in_flight + found.spool.being_sent,
                "tinybird": [
                    {
                        "table": one.table,
                        "rows": one.rows,
                        "state": found.states.get(one.table, "open" if one.rows else "nothing to delete"),
                        "command": one.command(host),
                    }
                    for one in found.deletions
                ],
                "remaining": remaining,
            }
        )
    else:
        for line in _lines(found):
            out.print(line)
        verb = "is" if found.events == 1 else "are"
        what = "would be erased" if dry_run else f"{verb} erased, and counted as dropped (reason forgotten)"
        out.print(f"{counted(found.events, 'event')} {what}")
        if open_deletions:
            out.print("Rows in Tinybird are deleted by these commands, or by --execute:", soft_wrap=True)
            for one in open_deletions:
                out.print(one.command(host), soft_wrap=True)
        for sentence in remaining:
            out.print(sentence, soft_wrap=True)
    return OK if dry_run or not (remaining or open_deletions) else PARTLY
