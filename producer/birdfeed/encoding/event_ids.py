"""Ids of events that the caller's own keys decide. All other events have a UUIDv7, made when they are tracked."""

from typing import Final

from uuid_utils import UUID, uuid5

#: Under which the ids of idempotency keys are made; any UUID would do, but it must never change.
_NAMESPACE: Final = UUID("0192f0c1-5a3e-7d44-9c1b-6a3f6f2f8b11")


def id_of_key(event_type: str, key: object) -> str:
    """The id of an event by the caller's own key: the same for the same type and key, whoever makes it, and when."""
    return str(uuid5(_NAMESPACE, f"{event_type}\n{key}"))
