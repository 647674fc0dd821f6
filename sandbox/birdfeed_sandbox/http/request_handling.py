"""The path of every request under /v0/: the journal, the faults, the work, the faults again, the response."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from birdfeed_sandbox.errors import ApiError, EngineError, QueryError
from birdfeed_sandbox.faults.spec import Side, Switches
from birdfeed_sandbox.http.request_log import Entry
from birdfeed_sandbox.http.responses import HTML_200, HTML_503, Answer, Dropped, Halved, odd
from birdfeed_sandbox.http.state import Service

#: Makes the answer; None: no answer, the connection is reset.
Work = Callable[[Switches, Entry], Awaitable[Answer | None]]

DOCUMENTATION: Final = "https://www.tinybird.co/docs/api-reference"


async def travel(
    service: Service,
    request: Request,
    entry: Entry,
    *,
    side: Side,
    name: str | None,
    probe: bytes,
    work: Work,
) -> Response:
    """Answer one request, with the faults that affect it.

    Args:
        service, request: The state, and the request.
        entry: Its entry in the journal.
        side: Which of the two APIs it is for.
        name: Its data source or pipe.
        probe: The body that faults may examine.
        work: Makes the answer if no fault does.
    """
    entry.datasource = name
    switches = service.faults.draw(side, name, probe)
    entry.faults = list(switches.active())
    try:
        if switches.delay_seconds is not None:
            await service.watch.pause(switches.delay_seconds)
        answer = _refusal(request, switches)
        if answer is None and switches.reset != "before":
            answer = await work(switches, entry)
    except ApiError as error:
        answer = error_answer(error.status, error.message, error.headers)
    except QueryError as error:
        answer = error_answer(error.status, error.message)
    except EngineError as error:
        answer = error_answer(400, f"[Error] {error.message}")
    if answer is not None and not switches.outage:
        answer = _with_rate_headers(service, answer, (side, name), switches)
    return await _send(service, request, switches, entry, answer)


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error in Tinybird's form."""
    return Answer.json(status, {"error": message, "documentation": DOCUMENTATION}, headers)


def authorise(request: Request, *tokens: str) -> None:
    """Check that the request carries one of these tokens; raises ApiError (403)."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError(403, "invalid authentication token. There is no Bearer token in the Authorization header")
    if not any(hmac.compare_digest(token.encode(), known.encode()) for known in tokens):
        raise _refused(request)


def rate_of(service: Service, side: Side, switches: Switches) -> float:
    """The requests per second that this request's data source takes."""
    if switches.rate_limit is not None and side == "events":
        return switches.rate_limit
    return service.settings.requests_per_second


def _refused(request: Request, status: int = 403) -> ApiError:
    """A refusal; like Tinybird's, its body repeats the token that was sent."""
    token = request.headers.get("authorization", "").partition(" ")[2]
    return ApiError(status, f"invalid authentication token. The token '{token}' has no permission for this")


def abandoned(service: Service, entry: Entry) -> Response:
    """Record that the client disconnected during its request."""
    entry.client_gone = True
    service.journal.answered(entry, None, time.time())
    return Dropped()


def _refusal(request: Request, switches: Switches) -> Answer | None:
    """The answer of a fault that replaces the work; None if there is none."""
    if switches.outage:
        return Answer(503, HTML_503, "text/html")
    if switches.auth == 404:
        raise ApiError(404, "not found: the workspace, or what was asked of it")
    if switches.auth is not None:
        raise _refused(request, switches.auth)
    retry_after = {} if switches.retry_after is None else {"Retry-After": f"{switches.retry_after:g}"}
    if switches.status is not None:
        if switches.body is None:
            message = f"answered with {switches.status} by a fault of the sandbox"
            return error_answer(switches.status, message, {**retry_after, **(switches.headers or {})})
        headers = {**retry_after, **(switches.headers or {})}
        return Answer(switches.status, switches.body.encode(), headers.pop("Content-Type", "text/plain"), headers)
    if switches.retry_after is not None:
        raise ApiError(429, "Too many requests", retry_after)
    return None


def _with_rate_headers(service: Service, answer: Answer, key: tuple[Side, str | None], switches: Switches) -> Answer:
    rate = rate_of(service, key[0], switches)
    headers = service.limiter.look(key, rate, time.monotonic()).headers()
    return Answer(answer.status, answer.body, answer.content_type, {**headers, **answer.headers})


async def _send(
    service: Service, request: Request, switches: Switches, entry: Entry, answer: Answer | None
) -> Response:
    """The response, as the faults let it leave."""
    if answer is not None and answer.status < 300:
        if switches.commit_then_hang is not None:
            entry.client_gone = await service.watch.until_gone(request.receive, switches.commit_then_hang)
            answer = None
        elif switches.commit_then_status is not None:
            message = f"answered with {switches.commit_then_status} by a fault of the sandbox"
            answer = error_answer(switches.commit_then_status, message)
    if switches.answer_delay_seconds is not None:
        await service.watch.pause(switches.answer_delay_seconds)
    entry.client_gone = entry.client_gone or await request.is_disconnected()
    if answer is None or switches.reset is not None or entry.client_gone:
        service.journal.answered(entry, None, time.time())
        return Dropped()
    if switches.not_json:
        answer = Answer(answer.status, HTML_200, "text/html", answer.headers)
    service.journal.answered(entry, answer.status, time.time())
    if switches.odd_answer is not None:
        return odd(answer, switches.odd_answer, service.watch)
    return Halved(answer) if switches.reset_mid_answer else answer.response()
