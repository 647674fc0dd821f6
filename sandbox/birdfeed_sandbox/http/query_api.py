"""GET and POST /v0/sql, /v0/pipes/<name>.<format>, GET /v0/datasources/<name>."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from birdfeed_sandbox.errors import ApiError
from birdfeed_sandbox.faults.spec import Switches
from birdfeed_sandbox.http.request_body import check_length, json_object, read_body
from birdfeed_sandbox.http.request_handling import abandoned, authorise, travel
from birdfeed_sandbox.http.request_log import Entry
from birdfeed_sandbox.http.responses import Answer
from birdfeed_sandbox.http.state import Service
from birdfeed_sandbox.store.sql_guard import MAX_QUERY_BYTES
from birdfeed_sandbox.store.workspace import Result

#: Suffix of a pipe's name in the path → the ClickHouse format.
_ENDINGS: Final = {"json": "JSON", "csv": "CSVWithNames", "ndjson": "JSONEachRow", "parquet": "Parquet"}

#: A longer body can't be a query: form encoding triples a text at most.
_MAX_BODY: Final = 4 * MAX_QUERY_BYTES


@dataclass(frozen=True, slots=True)
class Reads:
    """The handlers."""

    service: Service

    async def sql(self, request: Request) -> Response:
        """Run the SELECT in the parameter `q`, or in the body."""

        async def run(parameters: Mapping[str, str]) -> Answer:
            query = parameters.get("q", "").strip()
            if not query:
                raise ApiError(400, "the q parameter is mandatory: the query")
            return _answer(await self.service.engine.run(self.service.workspace.query, query))

        return await self._read(request, None, run, raw_body_is="q")

    async def pipe(self, request: Request) -> Response:
        """Run a pipe with the request's parameters."""
        name, _, ending = request.path_params["file"].rpartition(".")

        async def run(parameters: Mapping[str, str]) -> Answer:
            if ending not in _ENDINGS:
                raise ApiError(404, f"use /v0/pipes/<name> with one of .{', .'.join(_ENDINGS)}")
            if name not in self.service.workspace.pipes:
                raise ApiError(404, f"The pipe '{name}' does not exist")
            endpoint = self.service.workspace.endpoint
            return _answer(await self.service.engine.run(endpoint, name, parameters, _ENDINGS[ending]))

        return await self._read(request, name or None, run)

    async def datasource(self, request: Request) -> Response:
        """A data source's columns, types and paths."""
        name = request.path_params["name"]

        async def run(_: Mapping[str, str]) -> Answer:
            datasource = self.service.workspace.datasources.get(name)
            if datasource is None:
                raise ApiError(404, f"Data Source '{name}' does not exist")
            columns = [
                {
                    "name": column.name,
                    "type": column.type,
                    "nullable": column.nullable,
                    "default_value": None if column.default is None else f"DEFAULT {column.default}",
                    "jsonpath": column.path,
                }
                for column in datasource.columns
            ]
            engine = {
                "engine": datasource.engine,
                "engine_sorting_key": datasource.options.get("SORTING_KEY", ""),
                "engine_partition_key": datasource.options.get("PARTITION_KEY", ""),
            }
            return Answer.json(200, {"id": name, "name": name, "columns": columns, "engine": engine})

        return await self._read(request, name, run)

    async def _read(
        self,
        request: Request,
        name: str | None,
        run: Callable[[Mapping[str, str]], Awaitable[Answer]],
        *,
        raw_body_is: str | None = None,
    ) -> Response:
        service = self.service
        entry = service.journal.open(time=time.time(), method=request.method, path=request.url.path)
        try:
            body, entry.body_bytes = await read_body(request, keep=_MAX_BODY)
        except ClientDisconnect:
            return abandoned(service, entry)

        async def work(switches: Switches, _: Entry) -> Answer:
            authorise(request, service.settings.read_token, service.settings.admin_token)
            self._count(switches)
            check_length(entry.body_bytes, _MAX_BODY)
            return await run(_parameters(request, body, raw_body_is))

        return await travel(service, request, entry, side="reads", name=name, probe=body, work=work)

    def _count(self, switches: Switches) -> None:
        quota = switches.read_quota
        self.service.reads += 1
        if quota is not None and self.service.reads > quota:
            message = f"Too many requests: the quota of {quota} queries is used up"
            raise ApiError(429, message, {"Retry-After": "60"})


def _answer(result: Result) -> Answer:
    return Answer(200, result.body, result.content_type)


def _parameters(request: Request, body: bytes, raw_body_is: str | None) -> dict[str, str]:
    """The parameters of the URL, overridden by those of the body: a form, a JSON object, or one parameter's text."""
    parameters = dict(request.query_params)
    if not body.strip():
        return parameters
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, "the body is not UTF-8") from error
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return parameters | _json_parameters(body)
    if kind == "application/x-www-form-urlencoded" and (raw_body_is is None or text.startswith(f"{raw_body_is}=")):
        return parameters | dict(parse_qsl(text, keep_blank_values=True))
    if raw_body_is is not None:
        return parameters | {raw_body_is: text}
    raise ApiError(400, "send a pipe's parameters as a form or as JSON")


def _json_parameters(body: bytes) -> dict[str, str]:
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in json_object(body).items()
        if value is not None
    }
