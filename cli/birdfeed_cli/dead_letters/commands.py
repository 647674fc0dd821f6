"""The `birdfeed dead` commands, one line each."""

import inspect
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from birdfeed_cli.common.options import HALF_MINUTE, DryRun, Json, Limit, Span, Time, Yes

if TYPE_CHECKING:
    from birdfeed_cli.dead_letters.filters import Filters

dead_app = typer.Typer(no_args_is_help=True, help="Dead letters: events that could not be written as they are.")

#: The options that select dead events: fields of Choice, and --all.
FILTERS: Final[dict[str, Any]] = {
    "reason": Annotated[str | None, typer.Option(help="Only this reason, such as invalid.")],
    "fingerprint": Annotated[
        str | None, typer.Option(help="Only the kind of failure with this fingerprint (or these first characters).")
    ],
    "event_type": Annotated[str | None, typer.Option("--type", help="Only this event type.")],
    "model": Annotated[str | None, typer.Option(help="Only events that requested or used this model.")],
    "user": Annotated[str | None, typer.Option(help="Only events of this user (id or name).")],
    "since": Annotated[
        datetime | None, Time("Only events that last failed at or after this time: 2h, 7d, 2026-01-31.")
    ],
    "until": Annotated[datetime | None, Time("Only events that last failed before this time.")],
    "text": Annotated[str | None, typer.Option(help="Only events with this text in their error or their data.")],
    "ids": Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Only this dead letter; may be repeated.")
    ],
    "everything": Annotated[bool | None, typer.Option("--all", help="All dead events.")],
}


def filtered(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options in FILTERS to a command, which gets them as its first argument, a Filters."""

    @wraps(command)
    def run(**given: Any) -> int:
        from birdfeed_worker.dead_letters.query import Choice

        from birdfeed_cli.dead_letters.filters import Filters

        chosen = {name: given.pop(name) for name in FILTERS}
        everything = chosen.pop("everything")
        chosen["ids"] = tuple(chosen["ids"] or ()) or None
        return command(Filters(Choice(**chosen), everything), **given)

    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=None)
        for name, kind in FILTERS.items()
    ]
    own = [one.replace(kind=one.KEYWORD_ONLY) for one in inspect.signature(command).parameters.values()][1:]
    run.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (*options, *own)}
    return run


@dead_app.command("list")
@filtered
def dead_list(
    filters: "Filters",
    letters: Annotated[
        bool, typer.Option("--letters", help="List dead letters one by one; with --json, one line each.")
    ] = False,
    as_json: Json = False,
) -> int:
    """List dead events by kind of failure."""
    from birdfeed_cli.dead_letters.listing import run_letters, run_list

    return (run_letters if letters else run_list)(filters, as_json=as_json)


@dead_app.command("show")
def dead_show(
    which: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="A dead letter's id, or a fingerprint (shows the newest dead letter that has it)."
        ),
    ],
    events: Annotated[int, typer.Option(min=0, help="Show at most this many events.")] = 3,
    as_json: Json = False,
) -> int:
    """Show one dead letter and the events in it, with their data."""
    from birdfeed_cli.dead_letters.listing import run_show

    return run_show(which, events, as_json=as_json)


@dead_app.command("replay")
@filtered
def dead_replay(
    filters: "Filters",
    dry_run: DryRun = False,
    limit: Limit = None,
    rate: Annotated[float | None, typer.Option(min=0.1, help="At most this many events per second.")] = None,
    canary: Annotated[
        bool,
        typer.Option(
            "--canary/--no-canary", help="Try one event of each kind first; replay the others only if it is written."
        ),
    ] = True,
    canary_wait: Annotated[float, Span("How long to wait for each event that is tried first.")] = HALF_MINUTE,
    max_replays: Annotated[
        int, typer.Option(min=1, help="Skip events that were replayed this many times and failed again.")
    ] = 5,
    put: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a field; may be repeated.")
    ] = None,
    unset: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Remove a field; may be repeated.")] = None,
    set_type: Annotated[str | None, typer.Option(metavar="TYPE", help="Replay the events as this event type.")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="REPLAY", help="Continue the stopped replay with this name.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Put dead events back into the queue, once the cause is fixed. Ctrl-C stops it safely."""
    from birdfeed_cli.dead_letters.replay import Wish, run_replay

    wish = Wish(
        dry_run=dry_run,
        limit=limit,
        rate=rate,
        canary=canary,
        canary_wait=canary_wait,
        max_replays=max_replays,
        put=tuple(put or ()),
        unset=tuple(unset or ()),
        set_type=set_type,
        resume=resume,
    )
    return run_replay(filters, wish, as_json=as_json)


@dead_app.command("export")
@filtered
def dead_export(
    filters: "Filters",
    file: Annotated[str, typer.Argument(help="Where to write NDJSON; - for standard output.")] = "-",
    limit: Limit = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
) -> int:
    """Write dead events as lines of JSON, to read or to edit. They stay dead."""
    from birdfeed_cli.dead_letters.export_import import run_export

    return run_export(filters, file, limit, force=force)


@dead_app.command("import")
def dead_import(
    file: Annotated[str, typer.Argument(help="NDJSON written by `dead export`, edited or not; - for stdin.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> int:
    """Put edited dead events back into the queue, with their own ids and times."""
    from birdfeed_cli.dead_letters.export_import import run_import

    return run_import(file, dry_run=dry_run, as_json=as_json)


@dead_app.command("purge")
@filtered
def dead_purge(
    filters: "Filters", dry_run: DryRun = False, limit: Limit = None, yes: Yes = False, as_json: Json = False
) -> int:
    """Show how many dead events would be deleted, ask, and delete them. The ledger counts them as purged."""
    from birdfeed_cli.dead_letters.purge import run_purge

    return run_purge(filters, dry_run=dry_run, limit=limit, yes=yes, as_json=as_json)


@dead_app.command("log")
def dead_log(
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many entries.")] = 20, as_json: Json = False
) -> int:
    """Show who replayed, imported, purged or resumed what, newest first."""
    from birdfeed_cli.dead_letters.audit_log import run_log

    return run_log(limit, as_json=as_json)
