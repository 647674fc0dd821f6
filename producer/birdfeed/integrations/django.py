"""Django: read birdfeed's settings from Django's.

    INSTALLED_APPS = [..., "birdfeed.integrations.django.BirdfeedConfig"]
    MIDDLEWARE = ["birdfeed.integrations.django.birdfeed_middleware", ...]
    BIRDFEED = {"queue": "staging", "before_send": "my.telemetry.scrub", "context": "my.telemetry.of_request"}

BIRDFEED is optional: settings that it doesn't have come from the environment. `before_send`, `credentials` and
`context` may be functions or their dotted paths. The middleware is optional too: with it, a request's events inherit
the fields that `context` returns. If a `track` block sets no usage, status or error, its event is sent when the
response begins; a 4xx or 5xx status is then recorded as its error.
"""

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

from django.apps import AppConfig  # type: ignore[import-untyped, unused-ignore]
from django.conf import settings  # type: ignore[import-untyped, unused-ignore]
from django.utils.decorators import (  # type: ignore[import-untyped, unused-ignore]
    sync_and_async_middleware,
)
from django.utils.module_loading import import_string  # type: ignore[import-untyped, unused-ignore]

from birdfeed import api
from birdfeed.request_context import Request, told_by


class BirdfeedConfig(AppConfig):  # type: ignore[misc, unused-ignore]  # Django ships no types
    """The Django app; it has no models and no views."""

    name = "birdfeed.integrations.django"
    label = "birdfeed"
    verbose_name = "birdfeed"

    def ready(self) -> None:
        """Configure birdfeed; raises ConfigurationError if the settings are wrong."""
        given = {name: _function(name, value) for name, value in _settings().items() if name != "context"}
        api.configure(**given)


def _settings() -> dict[str, Any]:
    return dict(getattr(settings, "BIRDFEED", {}))


def _function(name: str, value: Any) -> Any:
    """A setting's value; if it is a function's dotted path, the function."""
    is_path = name in {"before_send", "credentials", "context"} and isinstance(value, str)
    return import_string(value) if is_path else value


@sync_and_async_middleware  # type: ignore[untyped-decorator, unused-ignore]
def birdfeed_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Give each request's events the context's fields, and the status of its response."""
    context = _function("context", _settings().get("context"))

    def follow(http_request: Any) -> Any:
        with Request(**told_by(context, http_request)) as request:
            response = get_response(http_request)
            request.answered(response.status_code)
            return response

    async def follow_async(http_request: Any) -> Any:
        with Request(**told_by(context, http_request)) as request:
            response = await get_response(http_request)
            request.answered(response.status_code)
            return response

    return follow_async if iscoroutinefunction(get_response) else follow
