"""Models whose rows are unpriced or partly priced: find them in Tinybird, and write entries to fill in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import tomlkit
from birdfeed_schemas.prices import RATES_OF, Unit
from birdfeed_schemas.tables.counted import counted
from birdfeed_schemas.tables.meters import TOKEN_CLASSES
from birdfeed_schemas.tables.providers import family_of

from birdfeed_worker.pricing.book.book import Books
from birdfeed_worker.pricing.book.entry import Entry
from birdfeed_worker.pricing.price.money import plain
from birdfeed_worker.tinybird.lookup import sql_time

#: Groups of rows read at most; if there are more, the largest are read.
MAX_GROUPS: Final = 1_000
#: What image_events counts besides tokens: the name of its rate, and the SQL for its amount.
_AMOUNTS: Final = (("image", "num_images"), ("video_second", "video_seconds"), ("audio_second", "audio_seconds"))
_PER: Final[Mapping[Unit, str]] = {
    "token": f"{10**6:,} tokens",
    "image": "image",
    "megapixel": "1,000,000 pixels",
    "second": "second",
}
#: Rates that a new entry should name, besides those of what was used.
_USUAL: Final[Mapping[Unit, tuple[str, ...]]] = {
    "token": ("prompt_text", "prompt_cached", "completion_text"),
    "image": ("image",),
    "megapixel": ("megapixel",),
    "second": ("video_second",),
}


@dataclass(slots=True, kw_only=True)
class Missing:
    """A model without a price, or without some of its rates.

    Attributes:
        name: The model that answered.
        is_text: Whether it is a text model: only those use the fallback.
        price_model: The model whose price is incomplete; "" if there is no price at all.
        asked: The names by which it was requested.
        used: Name of rate → amount used; `lacking` is the part without a rate.
        priced_now: Whether the current books have what was missing.
    """

    name: str
    is_text: bool
    price_model: str
    provider: str = ""
    events: int = 0
    last: str = ""
    asked: set[str] = field(default_factory=set)
    used: dict[str, float] = field(default_factory=dict)
    lacking: dict[str, float] = field(default_factory=dict)
    priced_now: bool = False

    @property
    def status(self) -> str:
        """The cost_status of its rows."""
        return "partial" if self.price_model else "unpriced"

    @property
    def tokens(self) -> int:
        """All tokens of its rows."""
        return int(sum(count for name, count in self.used.items() if name in TOKEN_CLASSES))


def question(datasource: str, since: datetime) -> str:
    """SQL for a data source's rows that have no price, or lack a rate; each event once."""
    amounts = _AMOUNTS if datasource == "image_events" else ()
    sums = [(name, f"{name}_tokens") for name in TOKEN_CLASSES] + list(amounts)
    columns = ", ".join(
        f"toString(sum({column})) AS used_{name}, "
        f"toString(sumIf({column}, NOT JSONHas(price_rates, '{name}'))) AS lacking_{name}"
        for name, column in sums
    )
    return (
        f"SELECT model_used, model, price_model, any(provider) AS provider, toString(count()) AS events, "
        f"toString(max(occurred_at), 'UTC') AS last, {columns} FROM {datasource} FINAL "
        f"WHERE occurred_at >= '{sql_time(since)}' "
        "AND (cost_status = 'partial' OR (cost_status = 'unpriced' AND price_match = 'none')) "
        f"GROUP BY model_used, model, price_model ORDER BY count() DESC LIMIT {MAX_GROUPS}"
    )


def missing_of(answers: Iterable[tuple[str, Mapping[str, Any]]], books: Books, now: datetime) -> list[Missing]:
    """The models, most events first, from (data source, row of the answer to its query)."""
    found: dict[tuple[bool, str, str], Missing] = {}
    for datasource, row in answers:
        is_text = datasource == "llm_events"
        key = (is_text, row["price_model"] or row["model_used"], row["price_model"])
        one = found.setdefault(key, Missing(name=key[1], is_text=is_text, price_model=row["price_model"]))
        one.provider = one.provider or ("" if row["provider"] == "unknown" else row["provider"])
        one.events += int(row["events"])
        one.last = max(one.last, row["last"][:16])
        one.asked |= {row["model"], row["model_used"]} - {one.name}
        for column, amount in row.items():
            kind, _, name = column.partition("_")
            if kind in ("used", "lacking") and float(amount):
                counts = one.used if kind == "used" else one.lacking
                counts[name] = counts.get(name, 0) + float(amount)
    for one in found.values():
        entry = entry_of(one, books, now)
        if one.price_model:
            # An amount that is not in the receipts counts as lacking only if the price could have a rate for it.
            payable = RATES_OF["token" if entry is None else entry.unit]
            one.lacking = {name: amount for name, amount in one.lacking.items() if name in payable}
            one.priced_now = entry is not None and bool(one.lacking) and entry.rates.keys() >= one.lacking.keys()
        else:
            one.lacking = {}
            one.priced_now = entry is not None
    # A row can also be partial because of its usage; unread.py lists those.
    kept = (one for one in found.values() if one.status == "unpriced" or one.lacking)
    return sorted(kept, key=lambda one: (-one.events, one.name))


def entry_of(one: Missing, books: Books, now: datetime) -> Entry | None:
    """The price that the current books have for it: by the model whose price it had, or by any of its names."""
    names = (one.price_model,) if one.price_model else (one.name, *sorted(one.asked))
    found = (_find(name, one, books, now) for name in names)
    return next((entry for entry in found if entry is not None), None)


def _find(name: str, one: Missing, books: Books, now: datetime) -> Entry | None:
    found = books.find(name, now)
    if found is None and one.is_text and books.fallback is not None:
        found = books.fallback.find(name, now, family_of(one.provider), {}, 0)
    return None if found is None else found.entry


def entries(missing: Iterable[Missing], books: Books, now: datetime) -> Iterator[str]:
    """TOML for a book, with rates to fill in; `prices check` names each that is not filled in."""
    grouped: dict[str, list[Missing]] = {}
    for one in missing:
        grouped.setdefault(one.name, []).append(one)
    for group in grouped.values():
        yield from _told(group, books, now)
        yield ""


def _told(group: Sequence[Missing], books: Books, now: datetime) -> Iterator[str]:
    """What is missing under one name, and one entry for all of it, because a book may name a model only once."""
    wanted: Missing | None = None
    for one in group:
        entry = entry_of(one, books, now) if one.price_model else None
        yield f"# {counted(one.events, 'event')} {one.status}, the last at {one.last} UTC" + (
            f"; asked for as {', '.join(map(_text, sorted(one.asked)))}" if one.asked else ""
        )
        what = one.lacking if one.price_model else one.used
        if what:
            yield f"# {'no rate for' if one.price_model else 'used'}: {amounts(what)}"
        if one.priced_now:
            yield f"# it has a price now: birdfeed prices reprice --since ... --model {_text(one.name)}"
        elif entry is not None and entry.source == "operator":
            yield f"# your book has {_text(entry.name)}: add what is missing there"
        else:
            wanted = one if wanted is None else _both(wanted, one)
    if wanted is not None:
        entry = entry_of(wanted, books, now) if wanted.price_model else None
        same = [name for name in sorted(wanted.asked) if entry and _names(name, entry, wanted, books, now)]
        yield from _entry(wanted, entry, same)


def _both(one: Missing, other: Missing) -> Missing:
    """Merge two of the same name, such as of two event types: all that was used, and the price of either."""
    return replace(
        one,
        price_model=one.price_model or other.price_model,
        is_text=one.is_text or other.is_text,
        provider=one.provider or other.provider,
        events=one.events + other.events,
        asked=one.asked | other.asked,
        used=_sum(one.used, other.used),
        lacking=_sum(one.lacking, other.lacking),
    )


def _sum(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _names(name: str, entry: Entry, one: Missing, books: Books, now: datetime) -> bool:
    """Whether a name belongs to the model of this price, and not to another one."""
    found = _find(name, one, books, now)
    return found is not None and found.name == entry.name


def amounts(counts: Mapping[str, float]) -> str:
    """Amounts with their names, for display."""
    return ", ".join(f"{name} {amount:,.0f}" for name, amount in counts.items())


def _entry(one: Missing, entry: Entry | None, aliases: Sequence[str]) -> Iterator[str]:
    unit = entry.unit if entry is not None else _unit(one)
    provider = entry.provider if entry is not None else one.provider
    rates = {} if entry is None else {name: plain(rate) for name, rate in entry.rates.items()}
    wanted = [name for name in RATES_OF[unit] if name in one.lacking or name in rates]
    if entry is None:
        wanted = [name for name in RATES_OF[unit] if name in _USUAL[unit] or name in one.used]
    yield "[[model]]"
    yield f"name = {_text(one.name)}"
    if aliases:
        yield f"aliases = [{', '.join(map(_text, aliases))}]"
    if provider:
        yield f"provider = {_text(provider)}"
    others = ", ".join(f'"{other}"' for other in RATES_OF if other != unit)
    yield f'unit = "{unit}"' + ("" if entry is not None else f"  # or {others}")
    filled = ", ".join(f"{name} = {rates.get(name, '')}" for name in wanted)
    yield f"# price = {{ {filled} }}  # USD per {_PER[unit]}; fill in the rates and remove the #"


def _unit(one: Missing) -> Unit:
    if one.is_text or one.tokens:
        return "token"
    return "second" if "video_second" in one.used or "audio_second" in one.used else "image"


def _text(value: str) -> str:
    return str(tomlkit.string(value).as_string())


def as_json(one: Missing) -> dict[str, Any]:
    """One model for JSON output."""
    return {
        "model": one.name,
        "asked_for_as": sorted(one.asked),
        "status": one.status,
        "event_type": "text_generation" if one.is_text else "image_generation",
        "events": one.events,
        "tokens": one.tokens,
        "used": {name: int(amount) if amount == int(amount) else amount for name, amount in one.used.items()},
        "lacking": sorted(one.lacking) if one.price_model else [],
        "last": datetime.fromisoformat(one.last).replace(tzinfo=UTC).isoformat(),
        "priced_now": one.priced_now,
    }
