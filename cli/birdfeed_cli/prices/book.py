"""`birdfeed prices check`, `diff` and `show`: maintain a price book."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from birdfeed_schemas.prices import ModelPrices
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.pricing.book.book import PriceBook, PriceBookError, load
from birdfeed_worker.pricing.book.diff import dates_of, diff
from birdfeed_worker.pricing.book.overlay import Overlay, overlay
from birdfeed_worker.pricing.book.show import Layer, describe, in_force, layers_of, names
from birdfeed_worker.pricing.price.money import plain
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.wiring import book_source_of

from birdfeed_cli.common.console import OK, PARTLY, fail, out, print_json, print_lines

#: The name that stands for the shipped book where a file is expected.
SHIPPED = "shipped"
#: Unit → what its rate is for.
_PER = {
    "token": f"{10**6:,} tokens",
    "image": "image",
    "megapixel": "megapixel",
    "second": "second",
}


def run_check(file: Path, *, as_json: bool) -> int:
    """Read a book; print everything that is wrong with it (exit code 1), or what it contains and changes."""
    try:
        book = load(file)
    except PriceBookError as error:
        if as_json:
            print_json({"file": str(file), "ok": False, "problems": list(map(asdict, error.problems))})
        else:
            print_lines(str(error).split("\n"))
            _line(f"{counted(len(error.problems), 'problem')}; the book can't be used")
        return PARTLY
    laid = overlay(load(), book)
    if as_json:
        print_json({"file": str(file), "ok": True, **_counts(book), **_overlay_json(laid)})
    else:
        _show_check(file, book, laid)
    return OK


def run_diff(old: str, new: str, *, as_json: bool) -> int:
    """Print what changed from one book to the other."""
    changes = diff(_book(old), _book(new))
    if as_json:
        print_json(list(map(asdict, changes)))
    elif changes:
        print_lines(f"  {change}" for change in changes)
    else:
        _line("no difference that changes a price")
    return OK


def run_show(model: str, at: datetime | None, *, as_json: bool) -> int:
    """Print what each layer of the current books has for a model. Exit code 1 if none has a price for it."""
    when = at or datetime.now(UTC)
    books = book_source_of(WorkerSettings.load()).current()
    layers = layers_of(books, model, when)
    priced = any(layer.used for layer in layers)
    if as_json:
        layers_json = [describe(layer, when) for layer in layers]
        print_json({"model": model, "at": when.isoformat(), "priced": priced, "layers": layers_json})
        return OK if priced else PARTLY
    for layer in layers:
        _show_layer(layer, when)
    if not priced:
        near = get_close_matches(model, set(names(books)), n=5, cutoff=0.5)
        hint = f"; similar names: {', '.join(near)}" if near and not layers else ""
        return fail(f"no price for {model!r} at {when:%Y-%m-%d %H:%M} UTC: its rows are 'unpriced'{hint}", PARTLY)
    return OK


def _book(which: str) -> PriceBook:
    return load() if which == SHIPPED and not Path(which).exists() else load(Path(which))


def _counts(book: PriceBook) -> dict[str, Any]:
    prices = [price for model in book.models.values() for price in model.price]
    return {
        "hash": book.hash,
        "models": len(book.models),
        "units": dict(Counter(model.unit for model in book.models.values())),
        "prices": len(prices),
        "variants": sum(len(price.variants) for price in prices),
    }


def _show_check(file: Path, book: PriceBook, laid: Overlay) -> None:
    counts = _counts(book)
    units = ", ".join(f"{count} by {unit}" for unit, count in counts["units"].items()) or "none"
    models, prices, variants = (counted(counts[f"{one}s"], one) for one in ("model", "price", "variant"))
    _line(f"{file}: valid; {models} ({units}), {prices}, {variants}; rows will name it {book.hash}")
    for note in laid.notes:
        _line(f"note: {note}")
    _line("")
    _line(f"Compared with the shipped book, of which {counted(laid.kept, 'model stays', 'models stay')} in use:")
    print_lines(f"  {change}" for change in laid.changes)
    for name, (before, now) in laid.taken.items():
        _line(f"  the name {name!r} belongs to {now} now (before: {before})")
    if not laid.changes and not laid.taken:
        _line("  nothing changes")


def _show_layer(layer: Layer, when: datetime) -> None:
    head = f"{layer.book} ({layer.origin})" if layer.model is None else f"{layer.source} {layer.book} ({layer.origin})"
    used = (
        "used"
        if layer.used
        else "not valid at that time"
        if layer.entry is None
        else "not used: another one comes first"
    )
    out.print(head, style="bold" if layer.used else "dim", end=": ", soft_wrap=True)
    out.print(used, style="green" if layer.used else "dim")
    if layer.model is None:
        assert layer.entry is not None
        _line(f"  {layer.entry.name}, found by {layer.match}; provider {layer.entry.provider or '(none)'}")
        _line(f"  {_rates(layer.entry.rates)}; USD per {_PER[layer.entry.unit]}")
    else:
        _show_model(layer.model, layer, when)
    _line("")


def _show_model(model: ModelPrices, layer: Layer, when: datetime) -> None:
    _line(f"  {model.name}, found by {layer.match}; provider {model.provider or '(none)'}")
    _line(f"  aliases {', '.join(model.aliases) or '(none)'}; original name {model.original_name or '(none)'}")
    _line(f"  USD per {_PER[model.unit]}:")
    for price in model.price:
        mark = "→" if in_force(price, when) else " "
        _line(f"  {mark} {dates_of(price).strip() or 'always'}: {_rates(price.given)}")
        for variant in price.variants:
            conditions = ", ".join(
                f"{key} {value}" for key, value in variant.when.model_dump(exclude_none=True).items()
            )
            _line(f"      if {conditions}: {_rates(variant.given)}")
    tiers = {} if layer.entry is None else layer.entry.multipliers
    if tiers:
        _line(f"  service tiers: {', '.join(f'{name} x {plain(factor)}' for name, factor in tiers.items())}")


def _rates(rates: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{name} {plain(rate)}" for name, rate in rates.items())


def _overlay_json(laid: Overlay) -> dict[str, Any]:
    return {
        "changes": list(map(asdict, laid.changes)),
        "taken": [{"name": name, "from": before, "by": now} for name, (before, now) in laid.taken.items()],
        "kept": laid.kept,
        "notes": laid.notes,
    }


def _line(text: str) -> None:
    out.print(text, soft_wrap=True)
