"""Redis errors: tell whether Redis can't work now, or whether something stored in it is wrong."""

from typing import Final

from redis import exceptions

from birdfeed_worker.queue.kinds import WrongKindError
from birdfeed_worker.queue.reply import error_code

#: Codes of the errors with which Redis refuses every command; redis-py has classes for others.
_NOT_NOW: Final = frozenset({"MISCONF", "NOREPLICAS", "BUSY", "UNKILLABLE", "UNBLOCKED", "WRONGKIND"})
_NOT_NOW_CLASSES: Final = (
    WrongKindError,
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.NoPermissionError,
    exceptions.NoScriptError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
)


def is_unavailable(error: Exception) -> bool:
    """Whether Redis is away, full, read-only or refuses, so that the only way is to try again later; also if a key that
    all jobs share has the wrong type.

    False for anything else: an answer to this one command (for example, a job's own key has the wrong type), or an
    error that is not Redis's.
    """
    if not isinstance(error, exceptions.RedisError):
        return False
    if not isinstance(error, exceptions.ResponseError):
        return True
    return isinstance(error, _NOT_NOW_CLASSES) or error_code(error) in _NOT_NOW
