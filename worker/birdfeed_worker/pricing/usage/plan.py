"""The plan by which usages of one shape are read. It is made once for each set of keys."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

from birdfeed_schemas.tables.meters import (
    CONTAINERS,
    INFORMATIONAL,
    INFORMATIONAL_ENDINGS,
    INFORMATIONAL_OBJECTS,
    METERS,
    MODIFIERS,
    REPORTED_COSTS,
    TOTALS,
    Meter,
)

from birdfeed_worker.pricing.usage.formats import MAX_DEPTH, is_attribute, snake_case

Shape: TypeAlias = tuple[Any, ...]
Keys: TypeAlias = tuple[str, ...]

#: Plans remembered (keys come from handlers, so there must be a bound); and the size of the largest usage with a plan.
_MAX_PLANS: Final = 1_000
_MAX_CACHED_SIZE: Final = 80
#: Paths of costs, and of values that say how to read them.
_COST_PATHS: Final = {"cost_details.upstream_inference_cost", "is_byok"}.union(*REPORTED_COSTS.values())
_ROLES: Final[Mapping[str, tuple[str, int]]] = {
    name: (role, place) for role, names in CONTAINERS.items() for place, name in enumerate(names)
}
#: Counts whose names some wrappers use for an object.
_OBJECTS_TOO: Final = frozenset(("input", "output", "total", "requests", "pages", "characters", "seconds"))
#: Counts that mean nothing without others.
_SAY_NOTHING_ALONE: Final = frozenset(("total", "completion_text_detail"))
_ORDINARY: Final = frozenset(
    (
        *("prompt", "completion", "total", "completion_text_detail"),
        *("prompt_cached", "prompt_cache_write", "prompt_audio", "prompt_image"),
        *("completion_audio", "completion_image", "completion_reasoning"),
    )
)
_PLAIN_KINDS: Final[frozenset[type]] = frozenset((dict, int, str, float, bool, type(None), Decimal))
#: Roles whose names are never those of counts.
_ALWAYS_OBJECTS: Final = frozenset(_ROLES) - {"input_tokens", "output_tokens"}


class Plan(NamedTuple):
    """How usages with the same keys and types of values are read. Nulls and booleans count as absent.

    Attributes:
        flat: Slot and key of counts in the usage itself.
        nested: Slot, object's key and key of counts in an object.
        deep: Slot and keys of counts that are nested deeper.
        marks: How the count of each slot nests; see the meter table. "i" for a prompt that is called input.
        says: Whether there is a count that means something by itself.
        is_ordinary: Whether there are no counts except totals, cached, writes, audio, images and reasoning.
        counters: Counter name and keys.
        modifiers: Words that change the price: name and keys.
        costs: Costs that the provider reports: path and keys.
        unread: Values that are not read; a positive number among them may be something that is billed.
        known: Whether the table has any of the keys, null or not.
        invalid: Whether a value that should be an object or a count is neither.
    """

    flat: tuple[tuple[int, str], ...]
    nested: tuple[tuple[int, str, str], ...]
    deep: tuple[tuple[int, Keys], ...]
    marks: tuple[str, ...]
    says: bool
    has_prompt: bool
    has_total: bool
    is_ordinary: bool
    counters: tuple[tuple[str, Keys], ...]
    modifiers: tuple[tuple[str, Keys], ...]
    costs: Mapping[str, Keys]
    unread: tuple[Keys, ...]
    known: bool
    invalid: bool


class _Spelling(NamedTuple):
    slot: str
    place: int
    mark: str


class Table:
    """The meter table, ready for look-ups; tests make their own, with a spelling left out."""

    def __init__(self, meters: tuple[Meter, ...] = METERS, totals: Mapping[str, tuple[str, ...]] = TOTALS) -> None:
        counters = {meter.name for meter in meters if meter.kind == "counter"}
        spelt = {**{meter.name: meter.spellings for meter in meters}, **totals}
        #: Slot name → position in the values that a plan reads.
        self.slots = {name: place for place, name in enumerate(name for name in spelt if name not in counters)}
        self.counters = counters
        self._spellings: dict[str, list[_Spelling]] = {}
        for slot, words in spelt.items():
            for place, word in enumerate(words):
                path = word.lstrip("+?^")
                self._spellings.setdefault(path, []).append(_Spelling(slot, place, word[: len(word) - len(path)]))
        #: Names of counts that are never objects. Some SDKs use the others for objects, which are then details.
        self.counts = frozenset(self._spellings) - _OBJECTS_TOO
        self._plans: dict[Shape, Plan] = {}

    def plan(self, raw: Mapping[str, Any]) -> Plan:
        """The plan for a usage of plain dicts; raises UntidyError if it has other mappings, or lists."""
        shape = shape_of(raw)
        plan = self._plans.get(shape)
        if plan is None:
            _check_plain(shape)
            plan = self._make(raw)
            if size_of(shape) <= _MAX_CACHED_SIZE:
                if len(self._plans) >= _MAX_PLANS:
                    self._plans.clear()
                self._plans[shape] = plan
        return plan

    def read_as(self, path: str) -> str | None:
        """The meter or total that is read from a path; None if it is not read."""
        found = self._spellings.get(path)
        return found[0].slot if found else None

    def _make(self, raw: Mapping[str, Any]) -> Plan:
        reads: dict[str, tuple[int, int, Keys, str, str]] = {}
        modifiers: list[tuple[str, Keys]] = []
        costs: dict[str, Keys] = {}
        unread: list[Keys] = []
        known = invalid = False
        for keys, path, place, is_informational in leaves(raw, self.counts):
            value = value_at(raw, keys)
            absent = value is None or isinstance(value, bool)
            if snake_case(keys[-1]) in _ALWAYS_OBJECTS and path not in self._spellings:
                invalid = invalid or not absent
                continue
            if path in _COST_PATHS:
                costs[path] = keys
            modifier = next((name for name, spelt in MODIFIERS.items() if path in spelt), None)
            if modifier is not None:
                modifiers.append((modifier, keys))
            elif is_informational:
                continue
            elif path in self._spellings:
                known = True
                if absent:
                    continue
                inside = any(is_attribute(key) or key == "gen_ai" for key in keys)
                for slot, order, mark in self._spellings[path]:
                    # If a key is there in both spellings, snake_case wins.
                    rank = 2 * place + (snake_case(keys[-1]) != keys[-1])
                    own = "i" if slot == "prompt" and path.startswith("input") else mark
                    read = (order, rank, keys, "" if inside else own, path)
                    reads[slot] = min(reads.get(slot, read), read)
            elif path not in _COST_PATHS and not _says_nothing(path):
                unread.append(keys)
        if "prompt" in reads and reads["prompt"][4].startswith("billed.") and "prompt_cached" in reads:
            # Cohere bills its billed units; its cached tokens are part of the tokens it counted.
            del reads["prompt_cached"]
        marks = [""] * len(self.slots)
        for slot, read in reads.items():
            if slot in self.slots:
                marks[self.slots[slot]] = _settled(read[3], reads)
        own_slots = {slot: read[2] for slot, read in reads.items() if slot in self.slots}
        return Plan(
            flat=tuple((self.slots[slot], keys[0]) for slot, keys in own_slots.items() if len(keys) == 1),
            nested=tuple((self.slots[slot], keys[0], keys[1]) for slot, keys in own_slots.items() if len(keys) == 2),
            deep=tuple((self.slots[slot], keys) for slot, keys in own_slots.items() if len(keys) > 2),
            marks=tuple(marks),
            says=not own_slots.keys() <= _SAY_NOTHING_ALONE,
            has_prompt="prompt" in own_slots,
            has_total="total" in own_slots,
            is_ordinary=own_slots.keys() <= _ORDINARY,
            counters=tuple((slot, read[2]) for slot, read in reads.items() if slot in self.counters),
            modifiers=tuple(modifiers),
            costs=costs,
            unread=tuple(unread),
            known=known,
            invalid=invalid,
        )


def _settled(mark: str, reads: Mapping[str, tuple[int, int, Keys, str, str]]) -> str:
    """Replace a mark that depends on the name of the completion's total by one that doesn't."""
    if mark != "^":
        return mark
    return "+" if "completion" in reads and reads["completion"][4] == "output" else ""


class UntidyError(Exception):
    """A usage has lists, or mappings that are not dicts: it must be tidied before it is read."""


def shape_of(raw: Mapping[str, Any], depth: int = 0) -> Shape:
    """The keys of a usage and of the objects in it, with the types of their values.

    Raises:
        UntidyError: Its objects are nested too deeply.
    """
    kinds = tuple(map(type, raw.values()))
    if dict not in kinds:
        return tuple(raw), kinds
    if depth >= MAX_DEPTH:
        raise UntidyError
    return (
        tuple(raw), kinds, *[shape_of(value, depth + 1) for value in raw.values() if type(value) is dict],
    )  # fmt: skip


def _check_plain(shape: Shape) -> None:
    if not _PLAIN_KINDS.issuperset(shape[1]):
        raise UntidyError
    for inner in shape[2:]:
        _check_plain(inner)


def size_of(shape: Shape) -> int:
    """The number of values in a shape, including those in objects."""
    return len(shape[0]) + sum(size_of(inner) for inner in shape[2:])


def leaves(raw: Mapping[str, Any], counts: frozenset[str]) -> list[tuple[Keys, str, int, bool]]:
    """Every value of a usage: its keys, its path in the words of the meter table, the rank of the details it is in,
    and whether it is in an informational object."""
    found: list[tuple[Keys, str, int, bool]] = []

    def walk(source: Mapping[str, Any], keys: Keys, path: tuple[str, ...], place: int, informational: bool) -> None:
        for key, value in source.items():
            name = snake_case(key)
            here = (*keys, key)
            is_count = ".".join((*path, name)) in counts and name not in _ROLES
            if type(value) is dict and len(here) <= MAX_DEPTH and not is_count:
                if name in _ROLES and (not path or path[0] in CONTAINERS):
                    role, rank = _ROLES[name]
                    walk(value, here, (role,), rank, informational)
                elif here == ("gen_ai",) or here == ("gen_ai", "usage"):
                    walk(value, here, (), place, informational)
                else:
                    walk(value, here, (*path, name), place, informational or name in INFORMATIONAL_OBJECTS)
            else:
                found.append((here, ".".join((*path, name)), place, informational))

    walk(raw, (), (), 0, False)
    return found


def value_at(raw: Mapping[str, Any], keys: Keys) -> Any:
    """The value under these keys."""
    value: Any = raw
    for key in keys:
        value = value[key]
    return value


def _says_nothing(path: str) -> bool:
    """Whether a number at this path is only informational."""
    last = path.rpartition(".")[2]
    return last in INFORMATIONAL or last.endswith(INFORMATIONAL_ENDINGS)
