"""`birdfeed ledger`: the balance of all events, and likely causes if some are missing."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.monitoring.ledger import Account, Ledger
from birdfeed_worker.operations.reconcile import Findings, reconcile, write_off
from rich.console import Group
from rich.table import Table
from rich.text import Text

from birdfeed_cli.common.confirm import confirm, must_be_answerable
from birdfeed_cli.common.console import NOTE, OK, PARTLY, err, fail, out, print_json
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.common.watch import watched


def run_ledger(*, as_json: bool, watch: bool) -> int:
    """Print the ledger. Exit codes: 0 it balances (or changes too fast to say), 1 it doesn't."""
    connection, keys = open_redis()
    if watch:
        return watched(lambda: ledger_view(*reconcile(connection, keys)), as_json=as_json)
    ledger, findings = reconcile(connection, keys)
    if as_json:
        print_json(describe(ledger, findings))
    else:
        out.print(ledger_view(ledger, findings))
    return OK if findings.balanced else PARTLY


def run_write_off(*, yes: bool, as_json: bool) -> int:
    """Show the ledger, ask, and count what is missing as purged. Exit code 1 if that was not possible."""
    connection, keys = open_redis()
    must_be_answerable(yes=yes, as_json=as_json)
    if not yes:
        ledger, findings = reconcile(connection, keys)
        err.print(ledger_view(ledger, findings))
        if ledger.total.missing:
            confirm(f"Count {counted(ledger.total.missing, 'missing event')} as purged, permanently?", yes=yes)
    events, findings = write_off(connection, keys)
    if events:
        note(connection, keys, "write off", events=events)
    if as_json:
        print_json({"written_off": events, "consistent": findings.consistent, "uncounted": findings.uncounted})
    if events:
        if not as_json:
            missing = counted(events, "missing event is", "missing events are")
            out.print(f"{missing} now counted as purged; `birdfeed dead log` has an entry for it")
        return OK
    if findings.uncounted:
        uncounted = counted(findings.uncounted, "event")
        return fail(f"a running worker will count {uncounted} as dead; nothing was written off", PARTLY)
    if not findings.consistent:
        return fail("the ledger is changing; stop the producers and workers, or wait until they are idle", PARTLY)
    if not as_json:
        out.print("nothing is missing")
    return OK if findings.balanced else PARTLY


def ledger_view(ledger: Ledger, findings: Findings) -> Group:
    """The ledger for display, at 80 columns."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("event type", overflow="fold")
    for column in ("accepted", "written", "dead", "dropped", "purged", "in flight", "missing"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, account in ledger.accounts.items():
        _row(table, name, account)
    if len(ledger.accounts) != 1:
        _row(table, "all", ledger.total)
    parts: list[Any] = [table]
    for what, reasons in (("dead", ledger.total.dead), ("dropped", ledger.total.dropped)):
        if reasons:
            parts.append(Text(f"{what}: " + ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))))
    parts.append(_verdict(findings))
    parts += [Text(f"· {suspect}") for suspect in findings.suspects]
    return Group(*parts)


def _row(table: Table, name: str, account: Account) -> None:
    numbers = (
        account.accepted,
        account.written,
        sum(account.dead.values()),
        sum(account.dropped.values()),
        account.purged,
        account.in_flight,
    )
    style = "bold red" if account.missing else ""
    table.add_row(name, *(f"{number:,}" for number in numbers), Text(f"{account.missing:,}", style=style))


def _verdict(findings: Findings) -> Text:
    if not findings.consistent:
        return Text(
            "The ledger changed while it was read: no verdict. Look again when the workers are idle.", style=NOTE
        )
    if findings.balanced:
        return Text("The ledger balances.", style="green")
    said = []
    for name, amount in findings.missing.items():
        if amount > 0:
            said.append(f"{counted(amount, f'{name} event is', f'{name} events are')} missing.")
        else:
            said.append(f"{counted(-amount, f'{name} event')} more than were accepted.")
    for (name, reason), amount in findings.dead_orphaned.items():
        events = f"{counted(abs(amount), f'dead {name} event')} ({reason})"
        said.append(f"{events} without a dead letter." if amount > 0 else f"{events} in dead letters, but not counted.")
    return Text("The ledger does not balance: " + " ".join(said), style="bold red")


def describe(ledger: Ledger, findings: Findings) -> dict[str, object]:
    """The ledger for JSON output."""
    return {
        "balanced": findings.balanced,
        "consistent": findings.consistent,
        "event_types": {name: account_json(account) for name, account in ledger.accounts.items()},
        "total": account_json(ledger.total),
        "dead_orphaned": [
            {"event_type": name, "reason": reason, "events": amount}
            for (name, reason), amount in findings.dead_orphaned.items()
        ],
        "suspects": list(findings.suspects),
    }


def account_json(account: Account) -> Mapping[str, object]:
    """One account for JSON output."""
    return {**asdict(account), "missing": account.missing}
