"""Trouble with Redis: whether an error says that it can't work now, or that something in it is not as it should be."""

from typing import Final

from redis import exceptions

from birdfeed_worker.queue.kinds import WrongKindError
from birdfeed_worker.queue.reply import error_code

#: What Redis answers first where it works for nobody, whatever is asked; redis-py has classes for some.
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
    """Whether Redis is away, full, read-only or refuses: trying again later is all one can do. So it is where a key
    that all jobs share is of the wrong kind.

    False for anything else: an answer to this very command (a job's own key of the wrong type, say), or no error of
    Redis's.
    """
    if not isinstance(error, exceptions.RedisError):
        return False
    if not isinstance(error, exceptions.ResponseError):
        return True
    return isinstance(error, _NOT_NOW_CLASSES) or error_code(error) in _NOT_NOW
