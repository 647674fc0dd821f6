"""Refuse cross-site requests from a browser before anything else handles them.

A web page can reach a server on the developer's own machine. Its own name may resolve to 127.0.0.1 (DNS rebinding),
which shows in the Host header, or it may just send a request there, which shows in the Origin header.
"""

from __future__ import annotations

from dataclasses import dataclass

from birdfeed_schemas.safety.urls import is_own_host
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from birdfeed_sandbox.http.request_handling import error_answer


@dataclass(frozen=True, slots=True)
class OwnHost:
    """Answers 403 to requests that aren't meant for this server.

    `names` are the host names accepted besides localhost. IP addresses always are, because they need no DNS.
    """

    app: ASGIApp
    names: frozenset[str] = frozenset()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the headers, then pass the request on."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
            return
        await error_answer(403, refusal).response()(scope, receive, send)

    def _refusal(self, headers: Headers) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not is_own_host(hosts[0], self.names):
            return "the Host header names another server; add that name with --allow-host to allow it"
        if any(origin != f"http://{hosts[0]}" for origin in origins):
            return "the Origin header names another site; the sandbox is not for web pages"
        return None
