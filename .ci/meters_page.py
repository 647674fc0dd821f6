"""Prints docs/reference/meters.md, made from the meter table. Run by `make docs`."""

from collections.abc import Iterator

from birdfeed_schemas.tables.meters import METERS, TOTALS, Meter


def _rate(meter: Meter) -> str:
    return f"USD per {meter.per:,}" + (" seconds (an hour)" if meter.name == "seconds" else "")


def _without(meter: Meter) -> str:
    if meter.parent is None:
        return "free" if meter.stand_in == "priced" else "left out: `partial`"
    return f"`{meter.parent}`'s: `{meter.stand_in}`" + ("" if meter.book else " (in a price book: left out, `partial`)")


def lines() -> Iterator[str]:
    """The page, line by line."""
    yield "# Meters: what is counted, and where it is read"
    yield ""
    yield "Made from `birdfeed_schemas/tables/meters.py`. Token classes are disjoint and sum to their total."
    yield ""
    yield "| meter | kind | column | rate | without a rate of its own |"
    yield "|---|---|---|---|---|"
    for meter in METERS:
        kind = meter.kind if meter.kind == "counter" else f"{meter.kind} tokens"
        yield f"| `{meter.name}` | {kind} | `{meter.column}` | {_rate(meter)} | {_without(meter)} |"
    yield ""
    yield "## Spellings"
    yield ""
    yield (
        "Paths in snake_case; camelCase and OpenTelemetry's `gen_ai.usage.` are respelt. `prompt.`, `completion.`, "
        "`cached.`, `cache_write.`, `tools.` and `billed.` stand for the details, however an SDK calls them. The first "
        "that is there counts. `+`: beside its total; `?`: depends on `total_tokens`, the shape, the provider."
    )
    yield ""
    yield "| read as | spellings |"
    yield "|---|---|"
    for name, spellings in (*((one.name, one.spellings) for one in METERS), *TOTALS.items()):
        if spellings:
            yield f"| `{name}` | {', '.join(f'`{one}`' for one in spellings)} |"


if __name__ == "__main__":
    print("\n".join(lines()))
