"""Flask: read birdfeed's settings from the app's configuration.

    app.config["BIRDFEED_QUEUE"] = "staging"
    Birdfeed(app)

Every setting can be given so, under its environment variable's name; what isn't given comes from the environment.
"""

from typing import Any

from flask import Flask

from birdfeed import api
from birdfeed.encoding.encoder import BeforeSend
from birdfeed.options import log_unknown
from birdfeed.settings import ProducerSettings

_PREFIX = "BIRDFEED_"


class Birdfeed:
    """The Flask extension; events are flushed when the process ends, so there is nothing to tear down."""

    def __init__(self, app: Flask | None = None, *, before_send: BeforeSend | None = None) -> None:
        """`before_send` is as for birdfeed.configure."""
        self._before_send = before_send
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Configure birdfeed from `app.config`; raises ConfigurationError where that is wrong."""
        given: dict[str, Any] = {}
        for name, value in app.config.items():
            setting = name.removeprefix(_PREFIX).lower()
            if name.startswith(_PREFIX) and setting in ProducerSettings.model_fields:
                given[setting] = value
        log_unknown({name: str(value) for name, value in app.config.items() if name.startswith(_PREFIX)})
        api.configure(before_send=self._before_send, **given)
        app.extensions["birdfeed"] = self
