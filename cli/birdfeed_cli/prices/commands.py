"""The `birdfeed prices` commands."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from birdfeed_cli.common.options import WEEK, DryRun, Json, Since, Time, Until, Yes

prices_app = typer.Typer(
    no_args_is_help=True, help="Estimate and explain costs; check price books; correct stored costs."
)

EventFile = Annotated[
    str, typer.Argument(metavar="[FILE]", help='NDJSON of {"event_type": ..., "event_data": {...}}; - for stdin.')
]
Book = Annotated[Path | None, typer.Option(help="Use only this price book (TOML), instead of those in the settings.")]


@prices_app.command("estimate")
def prices_estimate(file: EventFile = "-", book: Book = None, as_json: Json = False) -> int:
    """Print what events would cost, computed by the workers' own code; with --json one line for each event."""
    from birdfeed_cli.prices.estimate import run_estimate

    return run_estimate(file, book, as_json=as_json)


@prices_app.command("explain")
def prices_explain(
    file: EventFile = "-",
    event_id: Annotated[
        str | None,
        typer.Option(
            "--event", metavar="ID", help="Explain the stored row of the event with this id, from its receipt."
        ),
    ] = None,
    book: Book = None,
    as_json: Json = False,
) -> int:
    """Show how a cost is computed, number by number: of events in a file, or of a stored row."""
    from birdfeed_cli.prices.explain import run_explain, run_explain_stored

    if event_id is not None:
        return run_explain_stored(event_id, as_json=as_json)
    return run_explain(file, book, as_json=as_json)


def price(
    book: Book = None,
    explain: Annotated[bool, typer.Option(help="Print the arithmetic line by line instead of JSON.")] = False,
) -> int:
    """Former words for `prices estimate --json` and `prices explain`."""
    return prices_explain(book=book) if explain else prices_estimate(book=book, as_json=True)


@prices_app.command("reprice")
def prices_reprice(
    since: Since,
    until: Until = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Only this model, by any of its names; may be repeated.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Correct at most this many rows in this run.")] = None,
    as_json: Json = False,
) -> int:
    """Price stored rows by today's price books, show the difference, ask, and write corrections."""
    from birdfeed_cli.prices.reprice import run_reprice

    return run_reprice(since, until, model, dry_run=dry_run, yes=yes, limit=limit, as_json=as_json)


@prices_app.command("missing")
def prices_missing(
    since: Since = WEEK,
    toml: Annotated[bool, typer.Option("--toml", help="Print only the entries for a book.")] = False,
    as_json: Json = False,
) -> int:
    """List models whose rows have no price, or only a part of one, with entries to paste into a book."""
    from birdfeed_cli.prices.missing import run_missing

    return run_missing(since, only_toml=toml, json=as_json)


@prices_app.command("show")
def prices_show(
    model: Annotated[str, typer.Argument(help="A model, by any of its names.")],
    at: Annotated[datetime | None, Time("Prices at this time (default: now).")] = None,
    as_json: Json = False,
) -> int:
    """Show what each price book has for a model, and which one is used."""
    from birdfeed_cli.prices.book import run_show

    return run_show(model, at, as_json=as_json)


@prices_app.command("check")
def prices_check(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A price book (TOML).")],
    as_json: Json = False,
) -> int:
    """List everything that is wrong with a price book, or what it changes compared with the shipped one."""
    from birdfeed_cli.prices.book import run_check

    return run_check(file, as_json=as_json)


@prices_app.command("diff")
def prices_diff(
    old: Annotated[str, typer.Argument(help="A price book (TOML), or: shipped.")],
    new: Annotated[str, typer.Argument(help="The price book to compare with it, or: shipped.")],
    as_json: Json = False,
) -> int:
    """List the differences between two price books that change a price."""
    from birdfeed_cli.prices.book import run_diff

    return run_diff(old, new, as_json=as_json)


@prices_app.command("compare-invoice")
def prices_compare_invoice(
    file: Annotated[
        str,
        typer.Argument(
            help="An export from OpenAI or Anthropic, or a CSV with the columns day,model,cost; - for stdin."
        ),
    ],
    provider: Annotated[
        str | None,
        typer.Option(
            help="Compare only rows of this provider (default: the one whose export it is; a plain CSV names none)."
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=100, help="Percent by which a line may differ; one cent is always allowed.")
    ] = 1.0,
    as_json: Json = False,
) -> int:
    """Compare a provider's bill with the store, by day and model, and say what explains each difference."""
    from birdfeed_cli.prices.invoice import run_compare_invoice

    return run_compare_invoice(file, provider, tolerance, as_json=as_json)
