"""Flask: read birdfeed's settings from the app's configuration.

    app.config["BIRDFEED_QUEUE"] = "staging"
    Birdfeed(app, context=lambda request: {"request_id": request.headers.get("x-request-id")})

Every setting can be given in this way, under its environment variable's name; the others come from the environment.
`context` is optional. If a `track` block sets no usage, status or error, its event is sent when the response begins; a
4xx or 5xx status is then recorded as its error.
"""

from collections.abc import Callable
from typing import Any, Final

import flask
from flask import Flask

from birdfeed import api
from birdfeed.encoding.encoder import BeforeSend
from birdfeed.options import log_unknown
from birdfeed.request_context import Request, told_by
from birdfeed.settings import ProducerSettings
from birdfeed.typed import ContextFields

_PREFIX: Final = "BIRDFEED_"
#: The key in the WSGI environment that holds birdfeed's Request.
_REQUEST: Final = "birdfeed.request"


class Birdfeed:
    """The Flask extension. Events are flushed when the process exits, so there is nothing to tear down."""

    def __init__(
        self,
        app: Flask | None = None,
        *,
        before_send: BeforeSend | None = None,
        context: Callable[[flask.Request], ContextFields] | None = None,
    ) -> None:
        """`before_send` is as for birdfeed.configure; `context` returns the fields that a request's events inherit."""
        self._before_send = before_send
        self._context = context
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Configure birdfeed from `app.config`; raises ConfigurationError if a setting is wrong."""
        given: dict[str, Any] = {}
        for name, value in app.config.items():
            setting = name.removeprefix(_PREFIX).lower()
            if name.startswith(_PREFIX) and setting in ProducerSettings.model_fields:
                given[setting] = value
        log_unknown({name: str(value) for name, value in app.config.items() if name.startswith(_PREFIX)})
        api.configure(before_send=self._before_send, **given)
        app.extensions["birdfeed"] = self
        # First in each list. Flask calls before_request functions in order, and one of the program's own may answer the
        # request; it calls the others in reverse, so birdfeed's run last.
        app.before_request_funcs.setdefault(None, []).insert(0, self._begin)
        app.after_request_funcs.setdefault(None, []).insert(0, self._answered)
        app.teardown_request_funcs.setdefault(None, []).insert(0, self._end)

    def _begin(self) -> None:
        request = flask.request.environ[_REQUEST] = Request(**told_by(self._context, flask.request))
        request.__enter__()

    def _answered(self, response: flask.Response) -> flask.Response:
        request: Request | None = flask.request.environ.get(_REQUEST)
        if request is not None:
            request.answered(response.status_code)
        return response

    def _end(self, error: BaseException | None) -> None:
        request: Request | None = flask.request.environ.pop(_REQUEST, None)
        if request is not None:
            request.__exit__(type(error) if error is not None else None, error, None)
