"""Accounts of the ledger: under which name the events of a type are counted.

Anybody who reaches `track_event` may make up event types, and the ledger keeps its fields for ever. So a type that
birdfeed doesn't ship gets an account of its own only while the ledger is small; those that come later share one. Both
answers stay what they are, because the ledger never gets smaller: what was accepted under a name is written, dead or
dropped under the same name.
"""

from collections.abc import Container, Sized
from typing import Final, Protocol

from birdfeed_schemas.fields import SPELLINGS

#: Fields of the ledger from which on a type that is not known there has no account of its own.
LEDGER_FIELDS: Final = 200
#: The account that they share.
OTHER_TYPES: Final = "other"

_SHIPPED: Final = ", ".join(f"{name} = true" for name in sorted(SPELLINGS))
#: The Lua function account(ledger's key, event type). Where a Redis user may not look, each type has its own account.
ACCOUNT_LUA: Final = f"""
local SHIPPED = {{{_SHIPPED}}}
local function account(ledger, name)
  if SHIPPED[name] or redis.pcall('HEXISTS', ledger, 'accepted:' .. name) ~= 0 then return name end
  local fields = redis.pcall('HLEN', ledger)
  if type(fields) == 'number' and fields >= {LEDGER_FIELDS} then return '{OTHER_TYPES}' end
  return name
end
"""


class Counts(Sized, Container[str], Protocol):
    """The ledger's fields, as they were read."""


def account_of(counts: Counts, event_type: str) -> str:
    """The same for a ledger that was read."""
    own = event_type in SPELLINGS or f"accepted:{event_type}" in counts or len(counts) < LEDGER_FIELDS
    return event_type if own else OTHER_TYPES
