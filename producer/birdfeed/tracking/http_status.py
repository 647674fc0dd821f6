"""Read the HTTP status of a web framework's response: a returned 4xx or 5xx is an error, as a raised one is.

    4xx   status "error", error {"type": "client_error", "code": "404"}: the request was at fault, not the service
    5xx   status "error", error {"type": "server_error", "code": "503"}

Classes are recognised by their names, because importing the frameworks would slow down every program. Responses of HTTP
clients (httpx, requests) are not read: a provider's 429 says nothing about the request that the program serves.
"""

from typing import Any, Final

#: Packages whose responses and exceptions are answers to a client; Flask's are subclasses of werkzeug's.
_FRAMEWORKS: Final = frozenset({"starlette", "fastapi", "werkzeug", "django"})
#: Exceptions without a status attribute → the status with which the framework answers them.
_ANSWERED: Final = {
    "RequestValidationError": 422,
    "Http404": 404,
    "PermissionDenied": 403,
    "BadRequest": 400,
    "SuspiciousOperation": 400,
}
CLIENT_ERROR: Final = "client_error"
SERVER_ERROR: Final = "server_error"


def http_status(answer: object) -> int | None:
    """The status of a web framework's response or exception; None for anything else. Never raises."""
    for kind in type(answer).__mro__:
        if str(kind.__module__).partition(".")[0] in _FRAMEWORKS:
            break
    else:
        return None
    for name in ("status_code", "code"):
        try:
            status = getattr(answer, name, None)
        except Exception:  # nosec B112
            continue  # a property of the program's own class raises: no status
        if isinstance(status, int) and not isinstance(status, bool):
            return int(status)
    return next((_ANSWERED[kind.__name__] for kind in type(answer).__mro__ if kind.__name__ in _ANSWERED), None)


def error_of_status(status: int | None) -> dict[str, Any] | None:
    """The `error` of an event whose request was answered with this status; None if that is not an error."""
    if status is None or not 400 <= status <= 599:
        return None
    return {"type": CLIENT_ERROR if status < 500 else SERVER_ERROR, "code": str(status)}
