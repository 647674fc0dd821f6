"""`birdfeed ledger`: the balance of all events, and who may have taken what is missing."""

from collections.abc import Mapping
from typing import Any

from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.monitoring.ledger import Account, Ledger
from birdfeed_worker.operations.reconcile import Findings, reconcile, write_off
from redis import Redis
from rich.console import Group
from rich.table import Table
from rich.text import Text

from birdfeed_cli.common.console import NOTE, OK, PARTLY, fail, out, print_json
from birdfeed_cli.common.redis_access import with_redis
from birdfeed_cli.common.watch import watched


def run_ledger(*, as_json: bool, watch: bool, missing_to_purged: bool) -> int:
    """Print the ledger. Exit codes: 0 it balances (or moves too fast to say), 1 it doesn't, 3 no Redis."""

    def run(connection: Redis, keys: Keys) -> int:
        if missing_to_purged:
            return _write_off(connection, keys, as_json=as_json)
        if watch:
            return watched(lambda: ledger_view(*reconcile(connection, keys)))
        ledger, findings = reconcile(connection, keys)
        if as_json:
            print_json(describe(ledger, findings))
        else:
            out.print(ledger_view(ledger, findings))
        return OK if findings.balanced else PARTLY

    return with_redis(run)


def _write_off(connection: Redis, keys: Keys, *, as_json: bool) -> int:
    events, findings = write_off(connection, keys)
    if events:
        note(connection, keys, "write off", events=events)
    if as_json:
        print_json({"written_off": events, "sharp": findings.consistent, "uncounted": findings.uncounted})
    if events:
        if as_json:
            return OK
        out.print(f"{events} missing events are counted as purged; `birdfeed dead log` has a note of it")
        return OK
    if findings.uncounted:
        return fail(
            f"{findings.uncounted} events will be counted as dead by a running worker; nothing written off", PARTLY
        )
    if not findings.consistent:
        return fail("the ledger moves; stop the producers and workers, or wait until they rest", PARTLY)
    if not as_json:
        out.print("nothing is missing")
    return OK if findings.balanced else PARTLY


def ledger_view(ledger: Ledger, findings: Findings) -> Group:
    """The ledger for people, at 80 columns."""
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
        return Text("Things move while the ledger is read: no verdict. Look again when they rest.", style=NOTE)
    if findings.balanced:
        return Text("The ledger balances.", style="green")
    said = []
    for name, amount in findings.missing.items():
        what = "are missing" if amount > 0 else "more are there than were accepted"
        said.append(f"{abs(amount):,} {name} events {what}.")
    for (name, reason), amount in findings.dead_orphaned.items():
        where = "have no dead letter any more" if amount > 0 else "are in dead letters but not counted"
        said.append(f"{abs(amount):,} dead {name} events ({reason}) {where}.")
    return Text("The ledger does not balance: " + " ".join(said), style="bold red")


def describe(ledger: Ledger, findings: Findings) -> dict[str, object]:
    """The ledger for machines."""
    return {
        "balanced": findings.balanced,
        "sharp": findings.consistent,
        "event_types": {name: account_json(account) for name, account in ledger.accounts.items()},
        "total": account_json(ledger.total),
        "dead_gone": [
            {"event_type": name, "reason": reason, "events": amount}
            for (name, reason), amount in findings.dead_orphaned.items()
        ],
        "suspects": list(findings.suspects),
    }


def account_json(account: Account) -> Mapping[str, object]:
    """One account for machines."""
    return {
        "accepted": account.accepted,
        "written": account.written,
        "dead": dict(account.dead),
        "dropped": dict(account.dropped),
        "purged": account.purged,
        "in_flight": account.in_flight,
        "missing": account.missing,
    }
