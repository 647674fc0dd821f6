"""The commands of an operator's day, one line each; `register` adds them to the command line."""

from typing import Annotated

import typer

from birdfeed_cli.dead_commands import dead_replay

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Watch = Annotated[bool, typer.Option("--watch", help="Look again every two seconds, until Ctrl-C.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ledger")(ledger)
    # The short form that the docs use.
    app.command("replay")(dead_replay)


def ledger(
    as_json: Json = False,
    watch: Watch = False,
    write_off: Annotated[
        bool, typer.Option(help="Count what is missing as purged, when you know where it went.")
    ] = False,
) -> None:
    """Show where every accepted event is. Exit code 1 if it doesn't balance, with who may be behind it."""
    from birdfeed_cli.ledger import run_ledger

    raise typer.Exit(run_ledger(as_json=as_json, watch=watch, missing_to_purged=write_off))
