"""POST /v0/datasources/<name>/delete and GET /v0/jobs/<id>: delete the rows that match a condition, in a job."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from birdfeed_sandbox.errors import ApiError
from birdfeed_sandbox.faults.spec import Switches
from birdfeed_sandbox.http.request_body import check_length, read_body
from birdfeed_sandbox.http.request_handling import abandoned, authorise, travel
from birdfeed_sandbox.http.request_log import Entry
from birdfeed_sandbox.http.responses import Answer
from birdfeed_sandbox.http.state import Service
from birdfeed_sandbox.store.sql_guard import MAX_QUERY_BYTES

#: A longer body can't be a condition: form encoding triples a text at most.
_MAX_BODY = 4 * MAX_QUERY_BYTES
#: Jobs remembered, the newest.
_JOBS = 1_000


@dataclass(frozen=True, slots=True)
class Deletes:
    """The handlers. Both need the admin token, because Tinybird requires DATASOURCES:CREATE. A job is done when its
    state is first requested."""

    service: Service
    _jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def delete(self, request: Request) -> Response:
        """Delete the rows that match `delete_condition`; with `dry_run=true` only count them."""
        name = request.path_params["name"]

        async def run(body: bytes) -> Answer:
            given = dict(request.query_params) | dict(parse_qsl(body.decode(errors="replace")))
            condition = given.get("delete_condition", "").strip()
            if not condition:
                raise ApiError(400, "the delete_condition parameter is mandatory")
            if name not in self.service.workspace.tables:
                raise ApiError(404, f"Data Source '{name}' does not exist")
            dry = given.get("dry_run") == "true"
            delete = self.service.workspace.delete
            rows = await self.service.engine.run(delete, name, condition, dry_run=dry)
            if dry:
                return Answer.json(200, {"rows_to_be_deleted": rows})
            job_id = str(uuid4())
            url = f"{request.base_url}v0/jobs/{job_id}"
            job = {"kind": "delete_data", "id": job_id, "job_id": job_id, "job_url": url, "delete_condition": condition}
            self._jobs[job_id] = {**job, "status": "done", "rows_affected": rows, "datasource": {"name": name}}
            while len(self._jobs) > _JOBS:
                del self._jobs[next(iter(self._jobs))]
            return Answer.json(201, {**job, "status": "waiting"})

        return await self._answer(request, name, run)

    async def job(self, request: Request) -> Response:
        """A job's state."""

        async def run(_: bytes) -> Answer:
            job = self._jobs.get(request.path_params["id"])
            if job is None:
                raise ApiError(404, "there is no such job")
            return Answer.json(200, job)

        return await self._answer(request, None, run)

    async def _answer(self, request: Request, name: str | None, run: Any) -> Response:
        service = self.service
        entry = service.journal.open(time=time.time(), method=request.method, path=request.url.path)
        try:
            body, entry.body_bytes = await read_body(request, keep=_MAX_BODY)
        except ClientDisconnect:
            return abandoned(service, entry)

        async def work(_: Switches, entry: Entry) -> Answer:
            authorise(request, service.settings.admin_token)
            check_length(entry.body_bytes, _MAX_BODY)
            answer: Answer = await run(body)
            return answer

        return await travel(service, request, entry, side="reads", name=name, probe=body, work=work)
