"""Each number of a usage and what it was read as, for `birdfeed prices explain`."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from birdfeed_schemas.tables.meters import FRACTIONS

from birdfeed_worker.pricing.usage.formats import NotACountError, is_positive, read_amount, read_count, tidy
from birdfeed_worker.pricing.usage.normalise import TABLE, unwrapped
from birdfeed_worker.pricing.usage.plan import Table, UntidyError, leaves, value_at

NOT_A_COUNT: Final = "not a count, so nothing is read"


class Reading(NamedTuple):
    """One number of a usage.

    Attributes:
        keys: Its keys, joined by dots.
        read_as: A meter or total; "" if another spelling was used, it is informational, or it is not read.
        note: "read", "another spelling counts", "informs only", "not read", or "not a count, so nothing is read".
    """

    keys: str
    value: Any
    read_as: str
    note: str

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, int | float) else repr(self.value)[:80]
        return f"usage.{self.keys} {value}: {f'read as {self.read_as}' if self.note == 'read' else self.note}"


def readings(raw: object, table: Table = TABLE) -> list[Reading]:
    """How each number of a usage was read, in its order; empty for a usage that can't be read at all."""
    if not isinstance(raw, Mapping):
        return []
    plain: Mapping[str, Any] = raw
    try:
        try:
            plan = table.plan(plain)
        except UntidyError:
            plain = tidy(raw)
            plan = table.plan(plain)
        if not plan.known:
            plain, plan, _ = unwrapped(plain, plan, table)
    except (NotACountError, UntidyError):
        return []
    slots = {place: name for name, place in table.slots.items()}
    used: dict[tuple[str, ...], str] = {
        **{(key,): slots[slot] for slot, key in plan.flat},
        **{(key, inner): slots[slot] for slot, key, inner in plan.nested},
        **{keys: slots[slot] for slot, keys in plan.deep},
        **{keys: name for name, keys in plan.counters},
    }
    found = []
    for keys, path, _, _ in leaves(plain, table.counts):
        value = value_at(plain, keys)
        if value is None or isinstance(value, bool) or (keys not in used and not isinstance(value, int | float)):
            continue
        if keys in used:
            read_as, note = used[keys], "read" if _is_count(used[keys], value) else NOT_A_COUNT
        elif keys in plan.unread:
            read_as, note = "", "not read" if is_positive(value) else "informs only"
        else:
            read_as, note = "", "another spelling counts" if table.read_as(path) else "informs only"
        found.append(Reading(".".join(keys), value, read_as, note))
    return found


def _is_count(name: str, value: object) -> bool:
    try:
        _ = read_amount(value) if name in FRACTIONS else read_count(value)
    except NotACountError:
        return False
    return True
