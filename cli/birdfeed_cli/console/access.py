"""Access control of the console: foreign hosts and origins are refused, and users sign in with the token.

Without a token the console is read-only and shows no event data. With one, every page asks for it first.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from birdfeed_schemas.safety.urls import is_own_host
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "birdfeed_console"
READ_ONLY: Final = "the console is read-only until somebody signs in with BIRDFEED_CONSOLE_TOKEN"
#: Seconds for which a sign-in is valid, and how many are remembered; the oldest is removed first.
SIGNED_IN_SECONDS: Final = 43_200
MOST_SESSIONS: Final = 100
#: Bytes of a form at most.
FORM_BYTES: Final = 100_000
#: Headers of every page: nothing is loaded from or sent to other hosts, whatever an event contains, and no page can be
#: shown in a frame.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # URLs contain filters, such as a user's name. (no-referrer would also empty the Origin header of forms.)
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in: the secret of its forms, and until when it is valid (monotonic, s)."""

    form_key: str
    until: float


@dataclass(slots=True)
class Access:
    """The token, and the sign-ins with it.

    Args:
        token: If it is empty, nobody can sign in, and nothing can be changed.
        now: Returns monotonic seconds.
    """

    token: str = ""
    now: Callable[[], float] = time.monotonic
    _sessions: dict[str, Session] = field(default_factory=dict)

    def sign_in(self, token: str) -> str | None:
        """The cookie of a new sign-in; None if the token is wrong."""
        if not self.token or not hmac.compare_digest(token.strip().encode(), self.token.encode()):
            return None
        name = secrets.token_urlsafe(32)
        while len(self._sessions) >= MOST_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[name] = Session(secrets.token_urlsafe(32), self.now() + SIGNED_IN_SECONDS)
        return name

    def sign_out(self, request: Request) -> None:
        """Forget the request's sign-in."""
        self._sessions.pop(request.cookies.get(COOKIE, ""), None)

    def session(self, request: Request) -> Session | None:
        """The request's sign-in, or None."""
        found = self._sessions.get(request.cookies.get(COOKIE, ""))
        return found if found is not None and found.until > self.now() else None

    def may_read(self, request: Request) -> bool:
        """Whether the request may see pages."""
        return not self.token or self.session(request) is not None

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a form from a signed-in page of the console; repeated fields are joined by spaces.

        Raises:
            HTTPException: 403: nobody is signed in, or the form is not from a page of the console. 413: it is too long.
        """
        session, fields = self.session(request), await read_form(request)
        if session is None:
            raise HTTPException(403, "your session has ended; sign in again" if self.token else READ_ONLY)
        if not hmac.compare_digest(fields.pop("form_key", "").encode(), session.form_key.encode()):
            raise HTTPException(403, "this form does not belong to your session; reload the page")
        return fields


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; raises HTTPException (413) if it is too long."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > FORM_BYTES:
            raise HTTPException(413, "the form is too long")
    fields: dict[str, str] = {}
    for name, value in parse_qsl(body.decode(errors="replace")):
        fields[name] = f"{fields[name]} {value}" if name in fields else value
    return fields


@dataclass(frozen=True, slots=True)
class Guard:
    """Answers 403 to cross-site requests, and adds HEADERS to every response.

    `names` are the host names accepted besides localhost and IP addresses.
    """

    app: ASGIApp
    names: Collection[str] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the headers, then pass the request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["method"])
        answer = self.app if refusal is None else PlainTextResponse(refusal, 403)
        await answer(scope, receive, send_with_headers)

    def _refusal(self, headers: Headers, method: str) -> str | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not is_own_host(hosts[0], self.names):
            return "the Host header names another server; add that name to BIRDFEED_CONSOLE_NAMES to allow it"
        # The scheme isn't compared: a proxy in front may use TLS.
        if any(urlsplit(origin).netloc != hosts[0] for origin in origins) or (method == "POST" and not origins):
            return "this request does not come from a page of the console"
        return None
