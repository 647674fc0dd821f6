"""The commands of an operator's day, one line each; `register` adds them to the command line."""

from typing import Annotated

import typer

from birdfeed_cli.dead_letters.commands import dead_replay

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Watch = Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("ledger")(ledger)
    app.command("resume")(resume)
    app.command("metrics")(metrics)
    # The short form that the docs use.
    app.command("replay")(dead_replay)


def status(as_json: Json = False, watch: Watch = False) -> None:
    """Show on one screen how everything is doing. Exit code 0 healthy, 1 degraded, 3 down."""
    from birdfeed_cli.operate.status import run_status

    raise typer.Exit(run_status(as_json=as_json, watch=watch))


def ledger(
    as_json: Json = False,
    watch: Watch = False,
    write_off: Annotated[
        bool, typer.Option(help="Count what is missing as purged, when you know where it went.")
    ] = False,
) -> None:
    """Show where every accepted event is. Exit code 1 if it doesn't balance, with who may be behind it."""
    from birdfeed_cli.operate.ledger import run_ledger

    raise typer.Exit(run_ledger(as_json=as_json, watch=watch, missing_to_purged=write_off))


def resume(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="An event type or a data source; all that is stopped if left out."),
    ] = None,
    breaker_off: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Switch its circuit breaker off for so long: 10m, 1h.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Resume what was paused, once its cause is fixed."""
    from birdfeed_cli.operate.resume import run_resume

    raise typer.Exit(run_resume(name, breaker_off, as_json=as_json))


def metrics(
    markdown: Annotated[bool, typer.Option(help="Print the reference that docs/metrics.md holds.")] = False,
) -> None:
    """Print the queue's metrics as Prometheus reads them; the workers' own are served by `birdfeed worker`."""
    from birdfeed_cli.operate.metrics import run_metrics

    raise typer.Exit(run_metrics(markdown=markdown))
