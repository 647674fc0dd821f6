"""POST /v0/events: NDJSON into a data source."""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from birdfeed_sandbox.errors import ApiError, BodyError, EngineError
from birdfeed_sandbox.faults.spec import Switches
from birdfeed_sandbox.http.request_body import check_length, decoded, read_body
from birdfeed_sandbox.http.request_handling import abandoned, authorise, rate_of, travel
from birdfeed_sandbox.http.request_log import Entry
from birdfeed_sandbox.http.responses import Answer
from birdfeed_sandbox.http.state import Service
from birdfeed_sandbox.ingest.extract import Batch
from birdfeed_sandbox.ingest.ndjson import split_lines
from birdfeed_sandbox.store.workspace import Written

_log = logging.getLogger("birdfeed_sandbox")


@dataclass(frozen=True, slots=True)
class Events:
    """The handler."""

    service: Service

    async def post(self, request: Request) -> Response:
        """Accept a body, and answer when it is written."""
        service = self.service
        entry = service.journal.open(time=time.time(), method=request.method, path=request.url.path)
        limit = service.settings.max_body_bytes
        try:
            body, entry.body_bytes = await read_body(request, keep=limit)
        except ClientDisconnect:
            return abandoned(service, entry)
        entry.body_sha256 = hashlib.sha256(body).hexdigest()
        content: bytes | ApiError
        try:
            check_length(entry.body_bytes, limit)
            content = decoded(body, request.headers.get("content-encoding", ""), limit=limit)
        except ApiError as error:
            content = error  # returned later, because a wrong token takes precedence

        async def work(switches: Switches, entry: Entry) -> Answer | None:
            return await _Post(service, request, switches, entry).answer(content)

        probe = content if isinstance(content, bytes) else body
        name = request.query_params.get("name") or None
        return await travel(service, request, entry, side="events", name=name, probe=probe, work=work)


@dataclass(frozen=True, slots=True)
class _Post:
    """One request in progress."""

    service: Service
    request: Request
    switches: Switches
    entry: Entry

    async def answer(self, content: bytes | ApiError) -> Answer | None:
        name = self._datasource()
        self._check_rate(name)
        if isinstance(content, ApiError):
            raise content
        try:
            return await self._take(name, content)
        except BodyError as error:
            raise ApiError(400, f"Invalid JSON: {error}") from error

    def _datasource(self) -> str:
        settings = self.service.settings
        authorise(self.request, settings.append_token, settings.admin_token)
        name = self.request.query_params.get("name")
        if not name:
            raise ApiError(400, "the name parameter is mandatory: /v0/events?name=<data source>")
        if name not in self.service.workspace.datasources:
            raise ApiError(404, f"Data Source '{name}' not found")
        return name

    def _check_rate(self, name: str) -> None:
        rate = rate_of(self.service, "events", self.switches)
        allowance = self.service.limiter.take(("events", name), rate, time.monotonic())
        if not allowance.allowed:
            raise ApiError(429, f"Too many requests: the limit is {rate:g} a second", allowance.headers())

    async def _take(self, name: str, content: bytes) -> Answer | None:
        service, switches = self.service, self.switches
        if switches.max_body_bytes is not None:  # set only for bodies above it
            raise ApiError(413, f"Request Entity Too Large: the limit is {switches.max_body_bytes} bytes")
        if switches.poison is not None:  # set only for bodies that contain it
            split_lines(content)
            raise ApiError(400, "Invalid JSON: a line is not valid JSON")
        if switches.vanish is not None:
            self.entry.rows = len(split_lines(content))
            return _counts(switches.vanish, Written(self.entry.rows, 0))
        batch = await service.parser.run(service.workspace.extract, name, content, switches.quarantine_rows)
        self.entry.rows = len(batch.rows) + len(batch.quarantined)
        if switches.late_commit_seconds is not None:
            return await self._commit_late(name, batch, switches.late_commit_seconds)
        if switches.partly_written is not None:
            await self._write(name, batch.first(round(len(batch.rows) * switches.partly_written)))
            raise ApiError(422, "There was an error when materializing the data. Some of the rows may be written")
        if switches.short_count is not None and switches.short_count_writes == "counted":
            batch = batch.first(max(0, len(batch.rows) - switches.short_count))
        written = await self._write(name, batch)
        if switches.short_count is not None and switches.short_count_writes != "counted":
            written = Written(max(0, written.successful_rows - switches.short_count), written.quarantined_rows)
        waits = self.request.query_params.get("wait", "").lower() in ("true", "1")
        return _counts(200 if waits else 202, written)

    async def _commit_late(self, name: str, batch: Batch, seconds: float) -> Answer | None:
        """Write some time after the request arrived, whether or not the client is still connected."""
        service = self.service

        async def commit() -> None:
            if not await service.watch.pause(self.entry.time + seconds - time.time()):
                return
            try:
                await self._write(name, batch)
            except ApiError as error:
                _log.warning("the late write of request %d was refused: %s", self.entry.id, error.message)

        service.later(commit())
        if self.switches.late_commit_status is not None:
            message = "answered by a fault of the sandbox: the write comes later"
            raise ApiError(self.switches.late_commit_status, message)
        self.entry.client_gone = await service.watch.until_gone(self.request.receive, None)
        return None

    async def _write(self, name: str, batch: Batch) -> Written:
        service = self.service
        try:
            written = await service.engine.run(service.workspace.write, name, batch)
        except EngineError as error:
            raise ApiError(400, f"There was an error when writing the rows: {error.message}") from error
        self.entry.successful_rows = written.successful_rows
        self.entry.quarantined_rows = written.quarantined_rows
        self.entry.written_at = time.time()
        return written


def _counts(status: int, written: Written) -> Answer:
    return Answer.json(
        status, {"successful_rows": written.successful_rows, "quarantined_rows": written.quarantined_rows}
    )
