"""/_sandbox/: what Tinybird doesn't have: faults, the journal, emptying tables, changing a schema, SQL that writes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from birdfeed_sandbox.errors import ApiError, DatafileError, EngineError, FaultError, QueryError
from birdfeed_sandbox.http.request_body import json_object
from birdfeed_sandbox.http.request_handling import authorise, error_answer
from birdfeed_sandbox.http.responses import Answer
from birdfeed_sandbox.http.state import Service

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Control:
    """The handlers. All need the admin token, and faults, limits and the journal don't apply to them."""

    service: Service

    async def add_fault(self, request: Request) -> Answer:
        """POST /_sandbox/fault: switch a fault on."""
        number = self.service.faults.add(json_object(await request.body()))
        return Answer.json(200, {"id": number, "faults": self.service.faults.report()})

    async def clear_faults(self, request: Request) -> Answer:
        """DELETE /_sandbox/fault[?id=N]: switch one off, or all."""
        wanted = request.query_params.get("id")
        if wanted is not None and not wanted.isdecimal():
            raise ApiError(400, f"id must be a fault's number, not {wanted!r}")
        cleared = self.service.faults.clear(None if wanted is None else int(wanted))
        return Answer.json(200, {"cleared": cleared, "faults": self.service.faults.report()})

    async def state(self, request: Request) -> Answer:
        """GET /_sandbox/state[?since=ID]: requests, answers, rows by table, faults, the journal after an id."""
        since = request.query_params.get("since", "0")
        if not since.isdecimal():
            raise ApiError(400, f"since must be an entry's id, not {since!r}")
        tables = await self.service.engine.run(self.service.workspace.row_counts)
        report = self.service.journal.report(since=int(since))
        return Answer.json(
            200, {"time": time.time(), **report, "tables": tables, "faults": self.service.faults.report()}
        )

    async def reset(self, _: Request) -> Answer:
        """POST /_sandbox/reset: return to the initial state: no rows, no faults, no journal, the project's schemas."""
        self.service.forget()
        await self.service.engine.run(self.service.workspace.reset)
        return Answer.json(200, {"reset": True})

    async def replace_table(self, request: Request) -> Answer:
        """POST /_sandbox/tables {"datasource": name, "text": datafile}: replace a table by an empty one."""
        content = json_object(await request.body())
        name, text = content.get("datasource"), content.get("text")
        if not isinstance(name, str) or name not in self.service.workspace.datasources or not isinstance(text, str):
            raise ApiError(400, 'send {"datasource": the name of one, "text": the whole .datasource file}')
        datasource = await self.service.engine.run(self.service.workspace.replace, name, text)
        return Answer.json(200, {"datasource": name, "columns": [column.name for column in datasource.columns]})

    async def sql(self, request: Request) -> Answer:
        """POST /_sandbox/sql {"q": statement}: run it; a query's answer is in the format JSON."""
        query = json_object(await request.body()).get("q")
        if not isinstance(query, str):
            raise ApiError(400, 'send {"q": a statement}')
        body = await self.service.engine.run(self.service.workspace.admin_query, query)
        return Answer(200, body or b'{"data":[]}')

    def guarded(self, handler: Callable[[Request], Awaitable[Answer]]) -> Handler:
        """A handler that requires the admin token, and returns errors as a sentence."""

        async def guarded(request: Request) -> Response:
            try:
                authorise(request, self.service.settings.admin_token)
                answer = await handler(request)
            except ApiError as error:
                answer = error_answer(error.status, error.message, error.headers)
            except (FaultError, DatafileError, EngineError) as error:
                answer = error_answer(400, str(error))
            except QueryError as error:
                answer = error_answer(error.status, error.message)
            return answer.response()

        return guarded
