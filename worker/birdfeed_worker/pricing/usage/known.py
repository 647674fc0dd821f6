"""Usages of shapes seen before, read by structs: their counts come out of the JSON in one step.

Nearly all usages of an app have the same few shapes. What is left of a usage without its digits says which; a struct
made for that shape decodes it, and takes nothing else: other keys, other kinds of values, other words are read from
plain objects, as the first of each shape is. A test holds the two ways together.
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

#: Shapes remembered; keys come from handlers, so there must be a bound. The known SDKs have thirty.
_MAX_SHAPES: Final = 256
_DIGITS: Final = b"0123456789"
#: The counts of an ordinary usage.
_MAIN: Final = ("prompt", "completion", "total", "prompt_cached", "completion_reasoning")
#: The two tuples without the detour over their own constructors.
_tokens: Final = partial(tuple.__new__, Tokens)
_usage: Final = partial(tuple.__new__, Usage)
_Counted: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Shape(NamedTuple):
    """How usages of one shape are read.

    Attributes:
        plan: The same as for plain objects.
        decode: Makes a struct of the JSON; raises where it is of another shape.
        values: The counts of all slots, of the struct.
        counters: The names of what is beside tokens, and their counts.
        unread: Numbers that nobody reads.
        modifiers: What the shape's words change of the price.
        left_out: What is to be taken out of the JSON for usage_raw.
        main: Prompt, completion, total, cached tokens and reasoning, of the struct; None where the shape says more.
        others: Its other counts, which an ordinary usage has as 0.
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


class KnownUsage(Struct, gc=False):
    """A usage whose counts are read. `text` is what its row keeps; `parts` are uncached prompt, cached prompt, text and
    reasoning where that is all of it (see KnownShapes), unless its provider counts reasoning beside the completion.
    """

    shape: _Shape
    counts: Any
    text: str
    parts: tuple[int, int, int, int] | None

    @property
    def plain(self) -> Usage | None:
        """The usage itself, where its parts are all of it."""
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
        """What is counted beside tokens and is not 0."""
        return {name: count for name, get in self.shape.counters if (count := get(self.counts))} or NOTHING

    @property
    def is_unread(self) -> bool:
        """Whether a positive number is read by nobody."""
        return any(get(self.counts) for get in self.shape.unread)


class KnownShapes:
    """Reads usages, and remembers their shapes.

    A usage is ordinary whose prompt and completion sum to its total, of which it has no parts but cached tokens and
    reasoning, inside: then nothing is left to ask.

    Args:
        table: The meter table.
        kept: What a row keeps of a usage, and "" where it can't be kept.
        modifiers: What the words of a usage change of its price, by its plan.
        most_bytes: The longest usage that a row keeps.
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
        """A KnownUsage, or the JSON's value where its shape isn't known or can't be.

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
        if shape.main is not None and not (shape.others and any(shape.others(usage))):
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
        """How the like of it is read; None where that takes more than counts, or it isn't written as we write."""
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
            return None  # an object or a word where a count belongs
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
        )


class _UnfitError(Exception):
    """A usage that holds more than counts, nulls, booleans and a few words."""


def _struct(usage: Mapping[str, Any], keys: Keys, path: str, paths: dict[Keys, str], nulls: list[str]) -> type[Struct]:
    """A struct of just these keys. `paths` gets the attribute of each count, `nulls` the names of what is null."""
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
