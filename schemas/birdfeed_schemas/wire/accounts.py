"""Accounts of the ledger: the name under which a type's events are counted.

Any caller of `track_event` may invent event types, and the ledger keeps its fields for ever. So a type that birdfeed
doesn't ship gets its own account only while the ledger is small; later ones share an account. A type's account never
changes, because the ledger never shrinks: events accepted under a name are written, dead or dropped under that name.
"""

from collections.abc import Collection
from typing import Final

from birdfeed_schemas.fields import SPELLINGS

#: When the ledger has this many fields, a type that is not in it yet gets no account of its own.
LEDGER_FIELDS: Final = 200
#: The account that they share.
OTHER_TYPES: Final = "other"

_SHIPPED: Final = ", ".join(f"{name} = true" for name in sorted(SPELLINGS))
#: The Lua function account(ledger's key, event type). If the Redis user may not read it, each type has its own account.
ACCOUNT_LUA: Final = f"""
local SHIPPED = {{{_SHIPPED}}}
local function account(ledger, name)
  if SHIPPED[name] or redis.pcall('HEXISTS', ledger, 'accepted:' .. name) ~= 0 then return name end
  local fields = redis.pcall('HLEN', ledger)
  if type(fields) == 'number' and fields >= {LEDGER_FIELDS} then return '{OTHER_TYPES}' end
  return name
end
"""


def account_of(ledger: Collection[str], event_type: str) -> str:
    """The account of a type, by the fields of a ledger that was read."""
    own = event_type in SPELLINGS or f"accepted:{event_type}" in ledger or len(ledger) < LEDGER_FIELDS
    return event_type if own else OTHER_TYPES
