"""The commands for watching and resuming, one line each."""

from typing import Annotated

import typer

from birdfeed_cli.common.options import DryRun, Json, Span, Watch, Yes


def status(as_json: Json = False, watch: Watch = False) -> int:
    """Show the health of everything on one screen. Exit codes: 0 healthy, 1 degraded, 3 down."""
    from birdfeed_cli.operate.status import run_status

    return run_status(as_json=as_json, watch=watch)


def ledger(
    as_json: Json = False,
    watch: Watch = False,
    write_off: Annotated[
        bool, typer.Option("--write-off", help="Count missing events as purged, once you know where they went.")
    ] = False,
    yes: Yes = False,
) -> int:
    """Show where every accepted event is. Exit code 1 if it does not balance, with likely causes."""
    from birdfeed_cli.operate.ledger import run_ledger, run_write_off

    return run_write_off(yes=yes, as_json=as_json) if write_off else run_ledger(as_json=as_json, watch=watch)


def resume(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="An event type or a data source (default: everything that is paused)."),
    ] = None,
    breaker_off: Annotated[float | None, Span("Also turn its circuit breaker off for this long: 10m, 1h.")] = None,
    as_json: Json = False,
) -> int:
    """Resume what was paused, once its cause is fixed."""
    from birdfeed_cli.operate.resume import run_resume

    return run_resume(name, breaker_off, as_json=as_json)


def forget(
    user: Annotated[
        str, typer.Argument(metavar="USER", help="The person's id or name, raw or as it is stored; - for stdin.")
    ],
    dry_run: DryRun = False,
    execute: Annotated[
        bool,
        typer.Option("--execute", help="Also delete the rows in Tinybird; otherwise the commands for it are printed."),
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> int:
    """Erase one person's events from this host's spool, Redis and Tinybird. Other events of the same batches stay.

    Where BIRDFEED_USER_HMAC_KEY is set, events with the person's HMAC are erased, too.
    """
    from birdfeed_cli.operate.forget import run_forget

    return run_forget(user, dry_run=dry_run, execute=execute, yes=yes, as_json=as_json)


def metrics(as_json: Json = False) -> int:
    """Print the queue's metrics in the Prometheus format. `birdfeed worker` serves those of its workers."""
    from birdfeed_cli.operate.metrics import run_metrics

    return run_metrics(as_json=as_json)
