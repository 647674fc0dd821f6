"""The console's pages by path. They read their data with the same functions as the commands."""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Final, cast

from birdfeed._version import __version__
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.errors import BirdfeedError
from birdfeed_worker.queue.kinds import WrongKindError
from birdfeed_worker.settings import WorkerSettings
from redis import Redis
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.console.access import COOKIE, READ_ONLY, SIGNED_IN_SECONDS, Access, Guard, read_form
from birdfeed_cli.console.dead import explained, kind_page, kinds_page, letter_page
from birdfeed_cli.console.money import costs, missing
from birdfeed_cli.console.overview import overview
from birdfeed_cli.console.replays import VIA, Runs, log_values, new_page, run_values
from birdfeed_cli.console.templates import FOLDER, render
from birdfeed_cli.operate.resume import resume_noted

#: Paths that need no sign-in.
OPEN: Final = frozenset({"/sign-in", "/healthz"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The pages, and what they need. `connection` gives up quickly, because a page waits for it."""

    connection: Redis
    keys: Keys
    access: Access
    settings: WorkerSettings
    runs: Runs

    def close(self) -> None:
        """Stop the background work, and close the connections."""
        self.runs.close()
        for one in (self.connection, self.runs.connection):
            one.close()

    def page(self, request: Request, template: str, code: int = 200, /, **values: Any) -> HTMLResponse:
        """Render a template, with the values that all pages have and `values`."""
        session = self.access.session(request)
        common = {
            "path": request.url.path,
            "version": __version__,
            "has_token": bool(self.access.token),
            "signed_in": session is not None,
            "form_key": "" if session is None else session.form_key,
        }
        return HTMLResponse(render(template, {**common, **values}), code)

    def home(self, request: Request) -> Response:
        """The overview."""
        return self.page(request, "overview.html", **overview(self.connection, self.keys, request.query_params))

    def dead(self, request: Request) -> Response:
        """Dead letters that match filters: kinds of failure, and the letters, newest first."""
        return self.page(
            request,
            "dead.html",
            **kinds_page(self.connection, self.keys, request.query_params, signed_in=self._known(request)),
        )

    def kind(self, request: Request) -> Response:
        """One kind of failure with an example."""
        mark = request.path_params["fingerprint"]
        values = kind_page(self.connection, self.keys, mark, signed_in=self._known(request))
        return self.page(request, "kind.html", **values)

    def letter(self, request: Request) -> Response:
        """One dead letter."""
        letter_id = request.path_params["id"]
        values = letter_page(self.connection, self.keys, letter_id, signed_in=self._known(request))
        return self.page(request, "letter.html", **values)

    def replays(self, request: Request) -> Response:
        """The replays of this console, and the audit log of dead letters."""
        known = self._known(request)
        log = log_values(self.connection, self.keys) if known else []
        return self.page(request, "replays.html", runs=[run_values(run) for run in self.runs.listed()], log=log)

    def new_replay(self, request: Request) -> Response:
        """The form that starts a replay."""
        if not self._known(request):
            raise HTTPException(403, READ_ONLY)
        query = request.query_params
        values = new_page(self.connection, self.keys, query, query.getlist("letter"))
        return self.page(request, "new_replay.html", **values)

    async def start_replay(self, request: Request) -> Response:
        """Start a replay or a dry run."""
        fields = await self.access.form(request)
        run = await run_in_threadpool(self.runs.start, fields, fields.get("letter", "").split())
        return RedirectResponse(f"/replays/{run.order.replay_id}", 303)

    async def stop_replay(self, request: Request) -> Response:
        """End a replay after its current step."""
        await self.access.form(request)
        self.runs.stop(request.path_params["id"])
        return RedirectResponse(f"/replays/{request.path_params['id']}", 303)

    def replay(self, request: Request) -> Response:
        """A replay's progress or result."""
        run = self.runs.find(request.path_params["id"])
        if run is None or not self._known(request):
            raise HTTPException(404, "this console has no such replay; `birdfeed dead log` lists all replays")
        return self.page(request, "replay.html", **run_values(run))

    async def resume(self, request: Request) -> Response:
        """Resume an event type or a data source that was paused."""
        name = (await self.access.form(request)).get("name", "")
        with explained():
            await run_in_threadpool(resume_noted, self.runs.connection, self.keys, name, 0.0, **VIA)
        return RedirectResponse("/", 303)

    def costs(self, request: Request) -> Response:
        """Costs by model, tier and day."""
        values = costs(self.settings, request.query_params, signed_in=self._known(request))
        return self.page(request, "costs.html", **values)

    def prices(self, request: Request) -> Response:
        """Models without a full price."""
        return self.page(request, "prices.html", **missing(self.settings, request.query_params))

    def _known(self, request: Request) -> bool:
        return self.access.session(request) is not None

    async def sign_in(self, request: Request) -> Response:
        """Ask for the token, and sign in with it."""
        if request.method == "GET":
            return self.page(request, "sign_in.html", wrong=False)
        name = self.access.sign_in((await read_form(request)).get("token", ""))
        if name is None:
            return self.page(request, "sign_in.html", 403, wrong=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, name, max_age=SIGNED_IN_SECONDS, httponly=True, samesite="strict")
        return answer

    async def sign_out(self, request: Request) -> Response:
        """End a sign-in."""
        await self.access.form(request)
        self.access.sign_out(request)
        answer = RedirectResponse("/sign-in", 303)
        answer.delete_cookie(COOKIE)
        return answer

    def health(self, request: Request) -> Response:
        """Show that the console answers."""
        return PlainTextResponse("ok")

    def refused(self, request: Request, error: Exception) -> Response:
        """The page for an error with a message."""
        status, sentence = _said(error)
        return self.page(request, "problem.html", status, status=status, sentence=sentence)

    def answering(self, answer: Callable[[Request], Any]) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a page: it asks for a sign-in first if one is needed."""

        async def run(request: Request) -> Response:
            if request.url.path not in OPEN and not self.access.may_read(request):
                return RedirectResponse("/sign-in", 303)
            # Pages that read Redis or Tinybird run in a thread, so that the loop can answer other requests.
            if iscoroutinefunction(answer):
                return cast(Response, await answer(request))
            return cast(Response, await run_in_threadpool(answer, request))

        return run


def _said(error: Exception) -> tuple[int, str]:
    match error:
        case HTTPException():
            return error.status_code, error.detail
        case WrongKindError():
            return 503, str(error)
        case RedisError():
            return 503, f"Redis doesn't answer ({type(error).__name__})"
        case WrongUse():
            return 400, str(error)
    return 502, str(error)


def make_app(console: Console, names: Collection[str] = ()) -> Starlette:
    """The application; `names` are the host names that it accepts besides localhost and IP addresses."""
    pages: tuple[tuple[str, Callable[[Request], Any], list[str]], ...] = (
        ("/", console.home, ["GET"]),
        ("/dead", console.dead, ["GET"]),
        ("/dead/kinds/{fingerprint}", console.kind, ["GET"]),
        ("/dead/letters/{id}", console.letter, ["GET"]),
        ("/costs", console.costs, ["GET"]),
        ("/prices", console.prices, ["GET"]),
        ("/replays", console.replays, ["GET"]),
        ("/replays", console.start_replay, ["POST"]),
        ("/replays/new", console.new_replay, ["GET"]),
        ("/replays/{id}", console.replay, ["GET"]),
        ("/replays/{id}/stop", console.stop_replay, ["POST"]),
        ("/resume", console.resume, ["POST"]),
        ("/sign-in", console.sign_in, ["GET", "POST"]),
        ("/sign-out", console.sign_out, ["POST"]),
        ("/healthz", console.health, ["GET"]),
    )
    routes = [Route(path, console.answering(page), methods=methods) for path, page, methods in pages]
    return Starlette(
        routes=[*routes, Mount("/static", StaticFiles(directory=FOLDER / "static"))],
        middleware=[Middleware(Guard, names=frozenset(names))],
        exception_handlers=dict.fromkeys((HTTPException, RedisError, BirdfeedError, WrongUse), console.refused),
    )
