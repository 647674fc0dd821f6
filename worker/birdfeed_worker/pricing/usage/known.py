"""A fast path for usages of shapes that were seen before: structs read their counts from the JSON in one step.

Nearly all usages of an app have the same few shapes. A usage's JSON without its digits identifies its shape. A struct
made for that shape decodes it and accepts nothing else: usages with other keys, types or words are read from plain
objects, as the first usage of each shape is. A test compares the two.
"""

from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import orjson
from birdfeed_schemas.enrichment import NOTHING, Tokens, Usage
from birdfeed_schemas.tables.meters import FRACTIONS, KEPT_WORDS
from msgspec import Struct

from birdfeed_worker.pricing.usage.formats import MAX_TOKENS
from birdfeed_worker.pricing.usage.plan import Keys, Plan, Table, UntidyError, value_at

#: Shapes remembered; keys come from handlers, so there must be a bound. The known SDKs use thirty.
_MAX_SHAPES: Final = 256
_DIGITS: Final = b"0123456789"
#: The counts of an ordinary usage.
_MAIN: Final = ("prompt", "completion", "total", "prompt_cached", "completion_reasoning")
#: Make the two tuples without their own constructors, which are slower.
_tokens: Final = partial(tuple.__new__, Tokens)
_usage: Final = partial(tuple.__new__, Usage)
_Counted: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Shape(NamedTuple):
    """How usages of one shape are read.

    Attributes:
        plan: The plan, as for plain objects.
        decode: Makes a struct from the JSON; raises if it has another shape.
        values: Reads the counts of all slots from the struct.
        counters: The names of the counters, and the function that reads their counts.
        unread: Reads the numbers that have no meaning here.
        modifiers: The price modifiers in the shape's words.
        left_out: What must be removed from the JSON for usage_raw.
        main: Reads prompt, completion, total, cached tokens and reasoning; None if the shape has more.
        others: Reads its other counts, which are all 0 (`zeros`) in an ordinary usage.
    """

    plan: Plan
    decode: Callable[[bytes], Any]
    values: Callable[[Any], tuple[int, ...]]
    counters: tuple[tuple[str, Callable[[Any], int]], ...]
    unread: tuple[Callable[[Any], int], ...]
    modifiers: Mapping[str, str]
    left_out: tuple[str, ...]
    main: Callable[[Any], tuple[int, int, int, int, int]] | None
    others: Callable[[Any], tuple[int, ...]] | None
    zeros: tuple[int, ...]


class KnownUsage(Struct, gc=False):
    """A usage whose counts are read. `text` is what its row stores. `parts` are uncached prompt, cached prompt, text
    and reasoning if the usage has nothing else (see KnownShapes), unless its provider counts reasoning separately.
    """

    shape: _Shape
    counts: Any
    text: str
    parts: tuple[int, int, int, int] | None

    @property
    def plain(self) -> Usage | None:
        """The usage, if it has nothing but its parts."""
        if self.parts is None:
            return None
        prompt, cached, text, reasoning = self.parts
        tokens = _tokens((prompt, cached, 0, 0, 0, 0, 0, 0, text, 0, 0, reasoning))
        return _usage(("ok", tokens, NOTHING, text, self.shape.modifiers, None))

    @property
    def values(self) -> tuple[int, ...]:
        """The counts of all slots."""
        return self.shape.values(self.counts)

    @property
    def counters(self) -> Mapping[str, int]:
        """The counters that are not 0."""
        return {name: count for name, get in self.shape.counters if (count := get(self.counts))} or NOTHING

    @property
    def is_unread(self) -> bool:
        """Whether it has a positive number that is not read."""
        return any(get(self.counts) for get in self.shape.unread)


class KnownShapes:
    """Reads usages, and remembers their shapes.

    A usage is ordinary if its prompt and completion sum to its total, and their only parts are cached tokens and
    reasoning: then nothing else must be checked.

    Args:
        kept: Returns what a row stores of a usage, or "" if it can't be stored.
        modifiers: Returns the price modifiers in a usage's words, by its plan.
        most_bytes: The longest usage that a row stores.
    """

    def __init__(
        self,
        table: Table,
        kept: Callable[[Mapping[str, Any]], str],
        modifiers: Callable[[Mapping[str, Any], Plan], Mapping[str, str]],
        most_bytes: int,
    ) -> None:
        self._table = table
        self._kept = kept
        self._modifiers = modifiers
        self._most = most_bytes
        self._shapes: dict[bytes, _Shape | None] = {}

    def read(self, raw: bytes) -> Any:
        """A KnownUsage, or the JSON's value if its shape isn't known or can't be learnt.

        Raises:
            ValueError: It is not JSON.
        """
        skeleton = raw.translate(None, _DIGITS)
        try:
            shape = self._shapes[skeleton]
        except KeyError:
            return self._learn(raw, skeleton)
        if shape is None or len(raw) > self._most:
            return orjson.loads(raw)
        try:
            usage = shape.decode(raw)
        except msgspec.MsgspecError:
            return orjson.loads(raw)
        text = raw.decode()
        for piece in shape.left_out:
            text = text.replace(piece, "")
        if shape.main is not None and (shape.others is None or shape.others(usage) == shape.zeros):
            prompt, completion, total, cached, reasoning = shape.main(usage)
            if (
                total == prompt + completion
                and cached <= prompt
                and reasoning <= completion
                and 0 < total <= MAX_TOKENS
            ):
                return KnownUsage(shape, usage, text, (prompt - cached, cached, completion - reasoning, reasoning))
        return KnownUsage(shape, usage, text, None)

    def _learn(self, raw: bytes, skeleton: bytes) -> Any:
        usage = orjson.loads(raw)
        if len(self._shapes) < _MAX_SHAPES:
            self._shapes[skeleton] = self._shape_of(usage, raw)
        return usage

    def _shape_of(self, usage: Any, raw: bytes) -> _Shape | None:
        """How usages of this shape are read; None if it has more than counts, or isn't written as birdfeed writes."""
        if type(usage) is not dict or len(raw) > self._most or orjson.dumps(usage) != raw:
            return None
        paths: dict[Keys, str] = {}
        nulls: list[str] = []
        try:
            struct = _struct(usage, (), "", paths, nulls)
            plan = self._table.plan(usage)
        except (_UnfitError, UntidyError):
            return None
        numbers = {name for name, _ in plan.counters}
        if not plan.known or plan.invalid or plan.costs or not numbers.isdisjoint(FRACTIONS):
            return None
        text, left_out = raw.decode(), []
        for name in nulls:
            for piece in (f',"{name}":null', f'"{name}":null,'):
                if piece in text:
                    left_out.append(piece)
                    text = text.replace(piece, "")
        if text != self._kept(usage):
            return None
        where = {
            **{slot: (key,) for slot, key in plan.flat},
            **{slot: (key, inner) for slot, key, inner in plan.nested},
            **dict(plan.deep),
        }
        numbers_at = [*where.values(), *(keys for _, keys in plan.counters)]
        if any(value_at(usage, keys) is not None and not _is_count(usage, keys) for keys in numbers_at):
            return None  # an object or a word instead of a count
        where = {place: keys for place, keys in where.items() if _is_count(usage, keys)}

        def path(slot: str) -> str:
            return paths[where[place]] if (place := self._table.slots[slot]) in where else "zero"

        inside = plan.marks[self._table.slots["prompt_cached"]] == "" and plan.is_ordinary and not plan.counters
        others = [
            paths[keys] for place, keys in where.items() if place not in {self._table.slots[one] for one in _MAIN}
        ]
        others += [paths[keys] for keys in plan.unread if _is_count(usage, keys)]
        return _Shape(
            plan=plan,
            decode=msgspec.json.Decoder(struct).decode,
            values=attrgetter(
                *(paths[where[slot]] if slot in where else "zero" for slot in self._table.slots.values())
            ),
            counters=tuple((name, attrgetter(paths[keys])) for name, keys in plan.counters if _is_count(usage, keys)),
            unread=tuple(attrgetter(paths[keys]) for keys in plan.unread if _is_count(usage, keys)),
            modifiers=self._modifiers(usage, plan) if plan.modifiers else NOTHING,
            left_out=tuple(left_out),
            main=attrgetter(*map(path, _MAIN)) if inside else None,
            others=attrgetter(*others, "zero") if others else None,
            zeros=(0,) * (len(others) + 1),
        )


class _UnfitError(Exception):
    """A usage that holds more than counts, nulls, booleans and a few words."""


def _struct(usage: Mapping[str, Any], keys: Keys, path: str, paths: dict[Keys, str], nulls: list[str]) -> type[Struct]:
    """A struct with just these keys. The attribute of each count is added to `paths`, the names of nulls to `nulls`."""
    fields: list[tuple[str, Any, Any]] = []
    for number, (key, value) in enumerate(usage.items()):
        attribute, here = f"k{number}", (*keys, key)
        paths[here] = f"{path}{attribute}"
        kind: Any
        if type(value) is int and 0 <= value <= MAX_TOKENS:
            kind = _Counted
        elif value is None:
            kind = None
            nulls.append(key)
        elif type(value) is bool:
            kind = bool
        elif type(value) is str and key in KEPT_WORDS:
            kind = Literal[value]
        elif type(value) is dict and value:
            kind = _struct(value, here, f"{path}{attribute}.", paths, nulls)
        else:
            raise _UnfitError
        fields.append((attribute, kind, msgspec.field(name=key)))
    return msgspec.defstruct("Known", fields, namespace={"zero": 0}, forbid_unknown_fields=True, gc=False)


def _is_count(usage: Mapping[str, Any], keys: Keys) -> bool:
    return type(value_at(usage, keys)) is int
