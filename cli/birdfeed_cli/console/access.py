"""Who may see and do what in the console: foreign hosts and pages are refused, and whoever has the token signs in.

Without a token the console is read-only and shows no event's data. With one, every page asks for it first.
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
#: Seconds a sign-in lasts, and how many are remembered; the oldest goes first.
SIGNED_IN_SECONDS: Final = 43_200
MOST_SESSIONS: Final = 100
#: Most bytes of a form.
FORM_BYTES: Final = 100_000
#: Nothing is loaded or sent elsewhere, whatever a name in an event holds; nobody shows a page in a frame.
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # Addresses hold filters, such as a user's name. (no-referrer would also empty the Origin of forms.)
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in: the secret of its forms, and until when it lasts (monotonic, s)."""

    form_key: str
    until: float


@dataclass(slots=True)
class Access:
    """The token and who has signed in with it.

    Args:
        token: Empty: nobody signs in, and nothing can be changed.
        now: Monotonic seconds.
    """

    token: str = ""
    now: Callable[[], float] = time.monotonic
    _sessions: dict[str, Session] = field(default_factory=dict)

    def sign_in(self, token: str) -> str | None:
        """The cookie of a new sign-in; None where that isn't the token."""
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
        """The sign-in a request comes from."""
        found = self._sessions.get(request.cookies.get(COOKIE, ""))
        return found if found is not None and found.until > self.now() else None

    def may_read(self, request: Request) -> bool:
        """Whether it may see pages at all."""
        return not self.token or self.session(request) is not None

    async def form(self, request: Request) -> dict[str, str]:
        """The fields of a form that a signed-in page of ours sent; a field sent several times is joined by blanks.

        Raises:
            HTTPException: 403: nobody is signed in, or the form is not from one of our pages. 413: it is too long.
        """
        session, fields = self.session(request), await read_form(request)
        if session is None:
            raise HTTPException(403, "your session has ended; sign in again" if self.token else READ_ONLY)
        if not hmac.compare_digest(fields.pop("form_key", "").encode(), session.form_key.encode()):
            raise HTTPException(403, "this form does not belong to your session; reload the page")
        return fields


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; raises HTTPException (413) where it is too long."""
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
    """Answers 403 to requests that a foreign page talked a browser into, and puts HEADERS on every answer.

    Attributes:
        app: What answers the rest.
        names: Host names taken besides localhost and addresses.
    """

    app: ASGIApp
    names: Collection[str] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the headers, then pass the request on."""
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
        # The scheme isn't compared: a proxy before us may speak TLS.
        if any(urlsplit(origin).netloc != hosts[0] for origin in origins) or (method == "POST" and not origins):
            return "this request does not come from a page of the console"
        return None
