"""Event ids that are made from the caller's idempotency keys. All other events get a UUIDv7 when they are tracked."""

from typing import Final

from uuid_utils import UUID, uuid5

#: The UUID namespace for ids made from idempotency keys. Any UUID would do, but it must never change.
_NAMESPACE: Final = UUID("0192f0c1-5a3e-7d44-9c1b-6a3f6f2f8b11")


def id_of_key(event_type: str, key: object) -> str:
    """The event id for the caller's key: the same for the same type and key, in any process and at any time."""
    return str(uuid5(_NAMESPACE, f"{event_type}\n{key}"))
