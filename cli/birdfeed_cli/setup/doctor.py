"""`birdfeed doctor`: check everything from this process to the rows, one line each, with what to do."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Final
from uuid import uuid4

import birdfeed
from birdfeed.checks.findings import Check, State, exit_code
from birdfeed.checks.look import ANSWER_SECONDS, look, variables, wrong_settings
from birdfeed.settings import ProducerSettings
from birdfeed_schemas.datafiles import datasources
from birdfeed_schemas.safety.untrusted import redis_error
from birdfeed_schemas.settings import explain
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.tables.pages import page
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.errors import ConfigurationError, QueryError, TinybirdError
from birdfeed_worker.monitoring.facts import Health
from birdfeed_worker.monitoring.status import read_status
from birdfeed_worker.queue.connect import connect
from birdfeed_worker.queue.kinds import WrongKindError
from birdfeed_worker.queue.redis_time import redis_time
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.lookup import sql_text
from birdfeed_worker.tinybird.schema_check import check_append, check_schemas
from birdfeed_worker.tinybird.schema_compare import Mismatch
from birdfeed_worker.wiring import tinybird_of
from dotenv import dotenv_values
from pydantic import ValidationError
from redis.exceptions import RedisError
from rich.text import Text

from birdfeed_cli.common.console import BAD_BADGE, GOOD_BADGE, NOTE, WARN_BADGE, out, print_json
from birdfeed_cli.common.errors import store_code

STYLES: Final[Mapping[State, str]] = {
    "ok": GOOD_BADGE,
    "unknown": NOTE,
    "warning": WARN_BADGE,
    "wrong": BAD_BADGE,
    "down": BAD_BADGE,
}
#: Seconds that --send waits for the row, and seconds between two checks.
ROW_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 1.0
#: Findings of `birdfeed status` that other checks report already.
_TOLD: Final = frozenset({"no_worker", "redis_can_lose_events"})
_STATES: Final[Mapping[Health, State]] = {
    Health.HEALTHY: "unknown",
    Health.DEGRADED: "warning",
    Health.DOWN: "down",
}
#: The model of the event that --send sends.
MODEL: Final = "birdfeed-doctor"


def run_doctor(*, send: bool, as_json: bool) -> int:
    """Check and print. Exit codes: 0 all is well; 1 a warning; 2 the settings are wrong; 3 something is down."""
    checks = []
    for check in all_checks(send=send):
        checks.append(check)
        if not as_json:
            out.print(
                Text.assemble((check.state, STYLES[check.state]), f" {check.name}: {check.found}"), soft_wrap=True
            )
            if check.advice:
                out.print(f"  → {check.advice}", soft_wrap=True)
    if as_json:
        print_json({"exit_code": exit_code(checks), "checks": list(map(asdict, checks))})
    return exit_code(checks)


def all_checks(*, send: bool) -> Iterator[Check]:
    """The checks of producer, workers and Tinybird; and, with `send`, of an event's path if that is reachable."""
    yield from variables({name: value or "" for name, value in dotenv_values(".env").items()} | os.environ)
    try:
        producer, worker = ProducerSettings.with_dotenv(), WorkerSettings.load()
    except ValidationError as error:
        yield wrong_settings(ValueError(explain(error)))
        return
    except ConfigurationError as error:
        yield wrong_settings(error)
        return
    found = list(look(producer.options()))
    yield from found
    works = exit_code(found) < 2
    if works:
        yield from _status(worker)
    with_store = list(_store(worker))
    yield from with_store
    if send:
        if works and exit_code(with_store) < 2 and worker.has_read_token:
            yield from _followed(producer, worker)
        else:
            yield Check(
                name="send",
                state="unknown",
                found="no event was sent, because something above would stop it",
                advice="first do what the lines above say",
            )


def _status(settings: WorkerSettings) -> Iterator[Check]:
    """What `birdfeed status` finds, except what was already checked."""
    keys = Keys(settings.key_prefix, settings.queue)
    connection = connect(settings.redis_url_text, tries=0, timeout=ANSWER_SECONDS)
    try:
        status = read_status(connection, keys, redis_time(connection))
    except WrongKindError as error:
        yield Check(name="queue", state="down", found=str(error), advice="delete or rename that key")
        return
    except RedisError as error:
        yield Check(
            name="queue",
            state="unknown",
            found=f"this Redis user is not allowed to read the queue ({redis_error(error)})",
            advice=f"give it the rights that workers need: {page('Run workers')}",
        )
        return
    finally:
        connection.close()
    findings = [one for one in status.findings if one.rule.name not in _TOLD]
    for one in findings:
        state = _STATES[one.rule.health]
        advice = page("Runbook", one.rule.section)
        yield Check(name="queue", state=state, found=one.message, advice=advice)
    if not findings:
        depth = status.depth
        waiting = depth.queued + depth.started + depth.scheduled
        yield Check(
            name="queue",
            state="ok",
            found=f"{counted(waiting, 'job')} under way; `birdfeed status` finds nothing wrong",
        )


def _store(settings: WorkerSettings) -> Iterator[Check]:
    """Whether Tinybird is reachable, takes rows, and has the columns."""
    tokens = (settings.tinybird_token, settings.tinybird_token_file)
    if settings.tinybird_host is None and tokens == (None, None):
        yield Check(
            name="store",
            state="unknown",
            found="no Tinybird is configured; a host that runs only producers needs none",
            advice="run `birdfeed doctor` where workers run, or set TINYBIRD_HOST, TINYBIRD_TOKEN, TINYBIRD_READ_TOKEN",
        )
        return
    try:
        store = tinybird_of(settings)
    except ConfigurationError as error:
        yield Check(
            name="store",
            state="wrong",
            found=str(error),
            advice=f"`tb deploy` creates the tokens: {page('Set up Tinybird')}",
        )
        return
    with store:
        try:
            # Without a read token rows can be sent, but the columns can't be checked.
            problems = [*(check_schemas(store) if store.can_read else ()), *check_append(store)]
        except TinybirdError as error:
            yield _unreachable(settings, error)
            return
        yield from map(_problem, problems)
        if not store.can_read:
            yield Check(
                name="store",
                state="warning",
                found="TINYBIRD_READ_TOKEN is not set: columns can't be checked, nor what was written after a timeout",
                advice="set it to a token with READ scope on llm_events and image_events",
            )
        elif not problems:
            tables = ", ".join(datasources())
            yield Check(name="store", state="ok", found=f"{settings.host} takes rows; every column of {tables} fits")


def _unreachable(settings: WorkerSettings, error: TinybirdError) -> Check:
    status = error.status if isinstance(error, QueryError) else 0
    advice = "check TINYBIRD_HOST and the network to it; until then events wait in Redis"
    if status in (401, 403):
        advice = "replace TINYBIRD_TOKEN and TINYBIRD_READ_TOKEN by tokens of TINYBIRD_HOST's region"
    state: State = "down" if store_code(error) == 3 else "wrong"
    return Check(name="store", state=state, found=f"{settings.host}: {error}", advice=advice)


def _problem(problem: Mismatch) -> Check:
    advice = "`birdfeed tinybird check` lists every mismatch"
    if problem.problem == "no_scope":
        advice = "give the token that scope, or use the one that `tb deploy` created"
    return Check(name="store", state="warning", found=str(problem), advice=advice)


def _followed(producer: ProducerSettings, worker: WorkerSettings) -> Iterator[Check]:
    """Send an event with a cost of 0, and wait for its row."""
    request_id = f"doctor-{uuid4()}"
    birdfeed.configure(producer)
    began = time.monotonic()
    birdfeed.track_event(
        "text_generation",
        {
            "model": MODEL,
            "request_id": request_id,
            "environment": MODEL,
            "status": "success",
            "cost": 0,
            "sample_rate": 1,
        },
    )
    birdfeed.close()
    stats = birdfeed.stats()
    if stats.dropped or stats.enqueued == 0:
        why = ", ".join(stats.dropped) or "it waits in the spool"
        yield Check(
            name="send", state="down", found=f"the event did not reach Redis: {why}", advice="see the log above"
        )
        return
    yield Check(name="send", state="ok", found=f"Redis took the event after {_since(began)}")
    sql = f"SELECT event_id FROM llm_events WHERE request_id = {sql_text(request_id)} AND model = {sql_text(MODEL)}"
    with tinybird_of(worker) as store:
        row = _first_row(store, sql, began + ROW_SECONDS)
    if row is None:
        yield Check(
            name="send",
            state="down",
            found=f"its row (request_id {request_id}) was not in llm_events within {ROW_SECONDS:.0f} s",
            advice="`birdfeed status` shows where events wait, `birdfeed dead list` which failed",
        )
    else:
        yield Check(name="send", state="ok", found=f"its row was stored after {_since(began)}: event_id {row}")


def _first_row(store: Tinybird, sql: str, until: float) -> str | None:
    while True:
        found = store.query(sql)
        if found:
            return str(found[0]["event_id"])
        if time.monotonic() > until:
            return None
        time.sleep(LOOK_SECONDS)


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f} s"
