"""The commands, one line each; what they do stands in the files beside this one.

Exit codes: 0 done; 1 done, but some events were refused or something is not as it should be; 2 the command or the
settings are wrong; 3 Redis or the store can't be reached.
"""

from pathlib import Path
from typing import Annotated

import typer
from birdfeed._version import __version__

from birdfeed_cli.dead_letters.commands import dead_app
from birdfeed_cli.operate.commands import register

app = typer.Typer(
    name="birdfeed",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Telemetry from request handlers to Tinybird, through a Redis queue and a pool of workers.",
)
app.add_typer(dead_app, name="dead")
register(app)
tinybird_app = typer.Typer(no_args_is_help=True, help="The Tinybird project: data sources and endpoints.")
app.add_typer(tinybird_app, name="tinybird")
prices_app = typer.Typer(no_args_is_help=True, help="Price books: check, compare and search them, find what they lack.")
app.add_typer(prices_app, name="prices")
spool_app = typer.Typer(no_args_is_help=True, help="What producers of this host keep on disk while Redis is away.")
app.add_typer(spool_app, name="spool")

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Telemetry from request handlers to Tinybird."""


@app.command()
def worker(
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes (BIRDFEED_PROCESSES).")] = None,
) -> None:
    """Run the pool of workers until SIGTERM or Ctrl-C."""
    from birdfeed_worker.process.main import run_pool

    raise typer.Exit(run_pool(processes))


@app.command()
def up(
    data_dir: Annotated[Path, typer.Option(help="Where the embedded servers keep their data.")] = Path(".birdfeed"),
    processes: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    redis_port: Annotated[int | None, typer.Option(help="Port of the embedded Valkey (default: a free one).")] = None,
    tinybird_port: Annotated[int, typer.Option(help="Port of the sandbox Tinybird (0: a free one).")] = 0,
) -> None:
    """Start an embedded Valkey, a sandbox Tinybird and workers; stop them with Ctrl-C.

    With BIRDFEED_REDIS_URL or REDIS_URL set, that Redis is used; with TINYBIRD_HOST set, that Tinybird.
    """
    from birdfeed_cli.local.up import run_up

    raise typer.Exit(run_up(data_dir, processes, redis_port, tinybird_port))


@app.command()
def send(
    file: Annotated[str, typer.Argument(help='NDJSON of {"event_type": ..., "event_data": {...}}; - for stdin.')],
    as_json: Json = False,
) -> None:
    """Send events from a file through the real producer."""
    from birdfeed_cli.events.send import run_send

    raise typer.Exit(run_send(file, as_json=as_json))


@spool_app.command("list")
def spool_list(as_json: Json = False) -> None:
    """List the batches that wait on this host's disk."""
    from birdfeed_cli.events.spool import run_list

    raise typer.Exit(run_list(as_json=as_json))


@spool_app.command("drain")
def spool_drain(
    path: Annotated[Path | None, typer.Option(help="Another spool than the settings name.")] = None,
    rate: Annotated[float | None, typer.Option(min=1, help="Events a second (default: as fast as Redis).")] = None,
    as_json: Json = False,
) -> None:
    """Send what waits on this host's disk, oldest first."""
    from birdfeed_cli.events.spool import run_drain

    raise typer.Exit(run_drain(path, rate, as_json=as_json))


@app.command()
def price(
    book: Annotated[Path | None, typer.Option(help="Another price book (TOML) instead of the shipped one.")] = None,
    explain: Annotated[bool, typer.Option(help="Print the arithmetic line by line instead of JSON.")] = False,
) -> None:
    """Price events: NDJSON of {"event_type", "event_data"} on stdin, one line of JSON out for each."""
    from birdfeed_cli.prices.estimate import run_price

    raise typer.Exit(run_price(book, explain=explain))


@app.command()
def reprice(
    since: Annotated[str, typer.Option(help="Events from then on: 7d, 24h, 2026-01-31 or 2026-01-31T12:00:00Z.")],
    until: Annotated[str | None, typer.Option(help="Events before then; now if left out.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model, by any name; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Show the difference and write nothing.")] = False,
    yes: Annotated[bool, typer.Option(help="Write without asking.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Most rows to correct in this run.")] = None,
    as_json: Json = False,
) -> None:
    """Price stored rows by the books of today, show the difference, and write corrections."""
    from birdfeed_cli.prices.reprice import run_reprice

    code = run_reprice(since, until, model, dry_run=dry_run, yes=yes, limit=limit, as_json=as_json)
    raise typer.Exit(code)


@prices_app.command("check")
def prices_check(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A price book (TOML).")],
    as_json: Json = False,
) -> None:
    """Say everything that is wrong with a price book, or what it changes against the shipped one."""
    from birdfeed_cli.prices.book import run_check

    raise typer.Exit(run_check(file, as_json=as_json))


@prices_app.command("diff")
def prices_diff(
    old: Annotated[str, typer.Argument(help="A price book (TOML), or: shipped.")],
    new: Annotated[str, typer.Argument(help="Another, or: shipped.")],
    as_json: Json = False,
) -> None:
    """Print every difference between two price books that changes a price."""
    from birdfeed_cli.prices.book import run_diff

    raise typer.Exit(run_diff(old, new, as_json=as_json))


@prices_app.command("show")
def prices_show(
    model: Annotated[str, typer.Argument(help="Any of a model's names.")],
    at: Annotated[str | None, typer.Option(help="A date or time, UTC; now if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Print what each layer of the price books says of a model, and which one is used."""
    from birdfeed_cli.prices.book import run_show

    raise typer.Exit(run_show(model, at, as_json=as_json))


@prices_app.command("missing")
def prices_missing(
    since: Annotated[str, typer.Option(help="Events from then on: 7d, 24h, 2026-01-31.")] = "7d",
    toml: Annotated[bool, typer.Option("--toml", help="Print nothing but the entries for a book.")] = False,
    as_json: Json = False,
) -> None:
    """List models whose rows have no price or a part of one, with entries to paste into a book."""
    from birdfeed_cli.prices.missing import run_missing

    raise typer.Exit(run_missing(since, only_toml=toml, json=as_json))


@app.command()
def settings(
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option(help="Print the reference that docs/settings.md holds.")] = False,
) -> None:
    """Show each setting with its value (secrets masked), where it comes from, and what it means."""
    from birdfeed_cli.setup.settings import run_settings

    raise typer.Exit(run_settings(as_json=as_json, markdown=markdown))


@app.command()
def report(
    since: Annotated[str, typer.Option(help="Events from then on: 24h, 7d, 2026-01-31.")] = "24h",
    by: Annotated[str, typer.Option(help="What to group by, the first one also over time.")] = "model,tier,user",
    timezone: Annotated[str, typer.Option(help="Zone of hours and days, such as Europe/Berlin.")] = "UTC",
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots; it opens without internet.")] = None,
) -> None:
    """Show cost, requests, errors and latency of what is in the store."""
    from birdfeed_cli.report.command import run_report

    raise typer.Exit(run_report(since, by, timezone, as_json=as_json, as_csv=as_csv, html=html))


@tinybird_app.command("init")
def tinybird_init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the project goes; made if it isn't there.")],
    force: Annotated[bool, typer.Option(help="Overwrite files that differ from birdfeed's.")] = False,
) -> None:
    """Write the Tinybird project: data sources and endpoints, ready for `tb deploy`."""
    from birdfeed_cli.setup.tinybird import run_init

    raise typer.Exit(run_init(folder, force=force))


@tinybird_app.command("check")
def tinybird_check(as_json: Json = False) -> None:
    """Compare the live data sources with what the worker sends; name each mismatch. Nothing is written."""
    from birdfeed_cli.setup.tinybird import run_check

    raise typer.Exit(run_check(as_json=as_json))


@app.command()
def demo(
    events: Annotated[int, typer.Option(min=500, help="How many events to send.")] = 4_000,
    keep: Annotated[bool, typer.Option(help="Leave everything running at the end, until Ctrl-C.")] = False,
) -> None:
    """Show the whole way on embedded servers: events, an outage, a killed worker, dead letters, their replay."""
    from birdfeed_cli.local.demo import run_demo

    raise typer.Exit(run_demo(events, keep=keep))
