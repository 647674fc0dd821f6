"""The `birdfeed dead` commands, one line each."""

from typing import Annotated

import typer

dead_app = typer.Typer(no_args_is_help=True, help="Dead letters: events that could not be written as they are.")

Reason = Annotated[str | None, typer.Option(help="Only this reason, such as invalid.")]
Fingerprint = Annotated[str | None, typer.Option(help="Only this kind of failure (or what it begins with).")]
EventType = Annotated[str | None, typer.Option("--type", help="Only this event type.")]
Model = Annotated[str | None, typer.Option(help="Only events of this model, requested or used.")]
User = Annotated[str | None, typer.Option(help="Only events of this user, id or name.")]
Since = Annotated[str | None, typer.Option(help="Only what last failed since: 2h, 7d, or 2026-01-31T12:00Z.")]
Until = Annotated[str | None, typer.Option(help="Only what last failed before.")]
All = Annotated[bool, typer.Option("--all", help="Every dead event.")]
DryRun = Annotated[bool, typer.Option(help="Count what would happen; change nothing.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Most events.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Rate = Annotated[float | None, typer.Option(min=0.1, help="Most events a second.")]
CanaryOption = Annotated[
    bool, typer.Option("--canary/--no-canary", help="Try one event of each kind first; the others follow if it lives.")
]
CanaryWait = Annotated[float, typer.Option(min=1, help="Seconds to wait for the outcome of each such event.")]
MaxReplays = Annotated[
    int, typer.Option(min=1, help="Leave alone what was replayed this often and died again each time.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a field on the way; may be repeated.")
]
Unset = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Remove a field on the way; may be repeated.")]
SetType = Annotated[str | None, typer.Option(metavar="TYPE", help="Bring the events back as this event type.")]
Resume = Annotated[str | None, typer.Option(metavar="REPLAY", help="Go on with a replay that was cut short.")]


@dead_app.command("list")
def dead_list(
    reason: Reason = None,
    fingerprint: Fingerprint = None,
    event_type: EventType = None,
    model: Model = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    letters: Annotated[bool, typer.Option(help="Each dead letter by itself; with --json one line each.")] = False,
    as_json: Json = False,
) -> None:
    """List dead events by what killed them."""
    from birdfeed_cli.dead_letters.filters import Filters
    from birdfeed_cli.dead_letters.listing import run_letters, run_list

    filters = Filters(reason, fingerprint, event_type, model, user, since, until)
    raise typer.Exit((run_letters if letters else run_list)(filters, as_json=as_json))


@dead_app.command("show")
def dead_show(
    which: Annotated[str, typer.Argument(metavar="ID", help="A dead letter's id, or a fingerprint: its newest one.")],
    events: Annotated[int, typer.Option(min=0, help="Most events shown.")] = 3,
    as_json: Json = False,
) -> None:
    """Show one dead letter and the events in it, data and all."""
    from birdfeed_cli.dead_letters.listing import run_show

    raise typer.Exit(run_show(which, events, as_json=as_json))


@dead_app.command("replay")
def dead_replay(
    reason: Reason = None,
    fingerprint: Fingerprint = None,
    event_type: EventType = None,
    model: Model = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    dry_run: DryRun = False,
    limit: Limit = None,
    rate: Rate = None,
    canary: CanaryOption = True,
    canary_wait: CanaryWait = 30.0,
    max_replays: MaxReplays = 5,
    put: SetOption = None,
    unset: Unset = None,
    set_type: SetType = None,
    resume: Resume = None,
    as_json: Json = False,
) -> None:
    """Put dead events back into the queue, when what killed them is fixed. Ctrl-C stops it safely."""
    from birdfeed_cli.dead_letters.filters import Filters
    from birdfeed_cli.dead_letters.replay import Wish, run_replay

    filters = Filters(reason, fingerprint, event_type, model, user, since, until, everything)
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
    raise typer.Exit(run_replay(filters, wish, as_json=as_json))


@dead_app.command("export")
def dead_export(
    file: Annotated[str, typer.Argument(help="Where to write NDJSON; - for standard output.")] = "-",
    reason: Reason = None,
    fingerprint: Fingerprint = None,
    event_type: EventType = None,
    model: Model = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    force: Annotated[bool, typer.Option("--force", help="Write over FILE if it is there already.")] = False,
) -> None:
    """Write dead events as lines of JSON, to look at or to edit. They stay dead."""
    from birdfeed_cli.dead_letters.export_import import run_export
    from birdfeed_cli.dead_letters.filters import Filters

    filters = Filters(reason, fingerprint, event_type, model, user, since, until)
    raise typer.Exit(run_export(filters, file, limit, force=force))


@dead_app.command("import")
def dead_import(
    file: Annotated[str, typer.Argument(help="NDJSON as `dead export` wrote it, edited or not; - for stdin.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring edited dead events back into the queue, under their own ids and times."""
    from birdfeed_cli.dead_letters.export_import import run_import

    raise typer.Exit(run_import(file, dry_run=dry_run, as_json=as_json))


@dead_app.command("purge")
def dead_purge(
    reason: Reason = None,
    fingerprint: Fingerprint = None,
    event_type: EventType = None,
    model: Model = None,
    user: User = None,
    since: Since = None,
    until: Until = None,
    everything: All = False,
    dry_run: DryRun = False,
    limit: Limit = None,
    yes: Annotated[bool, typer.Option(help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete dead events for good; the ledger counts them as purged."""
    from birdfeed_cli.dead_letters.filters import Filters
    from birdfeed_cli.dead_letters.purge import run_purge

    filters = Filters(reason, fingerprint, event_type, model, user, since, until, everything)
    raise typer.Exit(run_purge(filters, dry_run=dry_run, limit=limit, yes=yes, as_json=as_json))


@dead_app.command("log")
def dead_log(
    limit: Annotated[int, typer.Option(min=1, help="Most entries.")] = 20,
    as_json: Json = False,
) -> None:
    """Show who replayed, imported, purged or resumed what, newest first."""
    from birdfeed_cli.dead_letters.audit_log import run_log

    raise typer.Exit(run_log(limit, as_json=as_json))
