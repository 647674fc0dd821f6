"""The tree of commands: `birdfeed --help`. The folders next to this file implement them.

A command returns its exit code: 0 done; 1 partly done, declined, or something is not as it should be; 2 the command or
the settings are wrong; 3 Redis or Tinybird can't be reached.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from birdfeed_cli.common.command_tree import FIX, HELP, INSPECT, PRICES, RUN, TRY_OUT, CommandTree
from birdfeed_cli.common.options import DAY, Json, Processes, Since
from birdfeed_cli.dead_letters.commands import dead_app, dead_replay
from birdfeed_cli.operate.commands import forget, ledger, metrics, resume, status
from birdfeed_cli.prices.commands import price, prices_app, prices_reprice

if TYPE_CHECKING:
    from birdfeed_schemas.wire.keys import Keys
    from birdfeed_worker.process.http import Listen
    from birdfeed_worker.settings import WorkerSettings

_NO_CONSOLE: Final = "the console needs the package {!r}: pip install 'birdfeed[console]'"

app = typer.Typer(
    name="birdfeed",
    cls=CommandTree,
    context_settings=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Send events from request handlers to Tinybird, through a Redis queue and a pool of workers.",
)
tinybird_app = typer.Typer(no_args_is_help=True, help="Create the Tinybird project, and check the live data sources.")
spool_app = typer.Typer(
    no_args_is_help=True, help="Batches that this host's producers keep on disk while Redis is unreachable."
)
app.add_typer(tinybird_app, name="tinybird", rich_help_panel=RUN)
app.add_typer(dead_app, name="dead", rich_help_panel=FIX)
app.add_typer(spool_app, name="spool", rich_help_panel=FIX)
app.add_typer(prices_app, name="prices", rich_help_panel=PRICES)
app.command(rich_help_panel=INSPECT)(status)
app.command(rich_help_panel=INSPECT)(ledger)
app.command(rich_help_panel=INSPECT)(metrics)
app.command(rich_help_panel=FIX)(resume)
app.command(rich_help_panel=FIX)(forget)
# The former name, which scripts may still use.
app.command("replay", hidden=True)(dead_replay)
app.command("reprice", hidden=True)(prices_reprice)
app.command("price", hidden=True)(price)


def _version(wanted: bool) -> None:
    if wanted:
        # Imported here: few commands need the producer.
        from birdfeed._version import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = None,
) -> None:
    """Send events from request handlers to Tinybird."""


@app.command(rich_help_panel=RUN)
def worker(
    processes: Annotated[int | None, Processes("Worker processes (BIRDFEED_PROCESSES).")] = None,
) -> int:
    """Run the pool of workers until SIGTERM or Ctrl-C."""
    from birdfeed_worker.process.main import run_pool

    return run_pool(processes, _console_beside)


def _console_beside(settings: "WorkerSettings", keys: "Keys") -> "Listen":
    """The console on the launcher's port; its packages are imported only if it is enabled."""
    from birdfeed_worker.errors import ConfigurationError

    try:
        from birdfeed_cli.console.server import beside
    except ModuleNotFoundError as error:
        raise ConfigurationError(_NO_CONSOLE.format(error.name)) from None
    return beside(settings, keys)


@app.command(rich_help_panel=RUN)
def settings(as_json: Json = False) -> int:
    """Show each setting: its value (secrets masked), its source, and its meaning."""
    from birdfeed_cli.setup.settings import run_settings

    return run_settings(as_json=as_json)


@app.command(rich_help_panel=INSPECT)
def doctor(
    send: Annotated[bool, typer.Option("--send", help="Send one event and wait for its row.")] = False,
    as_json: Json = False,
) -> int:
    """Check settings, spool, Redis, workers and Tinybird, one line each, and say how to fix what is wrong."""
    from birdfeed_cli.setup.doctor import run_doctor

    return run_doctor(send=send, as_json=as_json)


@app.command(rich_help_panel=INSPECT)
def report(
    since: Since = DAY,
    by: Annotated[
        str, typer.Option(help="Dimensions to group by; the first is also shown over time.")
    ] = "model,tier,user",
    timezone: Annotated[str, typer.Option(help="Time zone of hours and days, such as Europe/Berlin.")] = "UTC",
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with charts to this file; it needs no internet access.")
    ] = None,
    client_errors: Annotated[
        bool, typer.Option(help="Include requests that failed because of the client (error_type client_error).")
    ] = True,
) -> int:
    """Show cost, requests, errors and latency of the stored events."""
    from birdfeed_cli.report.command import run_report

    return run_report(since, by, timezone, as_json=as_json, as_csv=as_csv, html=html, client_errors=client_errors)


@app.command(rich_help_panel=INSPECT)
def console(
    host: Annotated[str | None, typer.Option(help="Address to listen on (BIRDFEED_CONSOLE_HOST).")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port to listen on (BIRDFEED_CONSOLE_PORT); 0: any free port.")
    ] = None,
) -> int:
    """Serve the web console, which shows all of this and replays dead letters; stop it with Ctrl-C."""
    try:
        from birdfeed_cli.console.server import run_console
    except ModuleNotFoundError as error:
        from birdfeed_cli.common.errors import WrongUse

        raise WrongUse(_NO_CONSOLE.format(error.name)) from None
    return run_console(host, port)


@app.command(rich_help_panel=TRY_OUT)
def demo(
    events: Annotated[int, typer.Option(min=500, help="How many events to send.")] = 4_000,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running afterwards, until Ctrl-C.")] = False,
) -> int:
    """Run a demonstration on embedded servers: events, an outage, a killed worker, dead letters and their replay."""
    from birdfeed_cli.local.demo import run_demo

    return run_demo(events, keep=keep)


@app.command(rich_help_panel=TRY_OUT)
def up(
    data_dir: Annotated[Path, typer.Option(help="Where the embedded servers keep their data.")] = Path(".birdfeed"),
    processes: Annotated[int | None, Processes("Worker processes.")] = None,
    redis_port: Annotated[
        int | None,
        typer.Option(help="Port of the embedded Valkey (default: the last one used, if free; 0: any free port)."),
    ] = None,
    tinybird_port: Annotated[
        int | None,
        typer.Option(help="Port of the sandbox Tinybird (default: the last one used, if free; 0: any free port)."),
    ] = None,
) -> int:
    """Start an embedded Valkey, a sandbox Tinybird and workers; stop them with Ctrl-C.

    If BIRDFEED_REDIS_URL or REDIS_URL is set, that Redis is used; if TINYBIRD_HOST is set, that Tinybird.
    """
    from birdfeed_cli.local.up import run_up

    return run_up(data_dir, processes, redis_port, tinybird_port)


@app.command(rich_help_panel=TRY_OUT)
def send(
    file: Annotated[str, typer.Argument(help='NDJSON of {"event_type": ..., "event_data": {...}}; - for stdin.')],
    as_json: Json = False,
) -> int:
    """Send events from a file, through the same producer that handlers use."""
    from birdfeed_cli.events.send import run_send

    return run_send(file, as_json=as_json)


@spool_app.command("list")
def spool_list(as_json: Json = False) -> int:
    """List the batches in this host's spool."""
    from birdfeed_cli.events.spool import run_list

    return run_list(as_json=as_json)


@spool_app.command("drain")
def spool_drain(
    path: Annotated[Path | None, typer.Option(help="Spool file (default: the one in the settings).")] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Events per second (default: as fast as Redis takes them).")
    ] = None,
    as_json: Json = False,
) -> int:
    """Send the batches in this host's spool to Redis, oldest first."""
    from birdfeed_cli.events.spool import run_drain

    return run_drain(path, rate, as_json=as_json)


@tinybird_app.command("init")
def tinybird_init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the project; created if missing.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that differ from birdfeed's.")] = False,
) -> int:
    """Write the Tinybird project: data sources and endpoints, ready for `tb deploy`."""
    from birdfeed_cli.setup.tinybird import run_init

    return run_init(folder, force=force)


@tinybird_app.command("check")
def tinybird_check(as_json: Json = False) -> int:
    """Compare the live data sources with what the workers send, and list each mismatch; change nothing."""
    from birdfeed_cli.setup.tinybird import run_check

    return run_check(as_json=as_json)
