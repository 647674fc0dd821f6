"""`birdfeed dead log`: who did what to dead letters."""

from typing import Any

from birdfeed_schemas.wire.envelope import format_time
from birdfeed_worker.dead_letters.audit import entries
from rich.table import Table
from rich.text import Text

from birdfeed_cli.common.console import OK, out, print_json
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.dead_letters.filters import choice_words


def run_log(limit: int, *, as_json: bool) -> int:
    """Print the log, newest first."""
    found = list(entries(*open_redis(), limit))
    if as_json:
        print_json([{"at": format_time(e.at), "who": e.who, "action": e.action, **e.details} for e in found])
    elif not found:
        out.print("nobody has changed dead letters yet")
    else:
        table = Table(box=None, pad_edge=False)
        table.add_column("when (UTC)", no_wrap=True)
        table.add_column("who", overflow="fold")
        table.add_column("what", no_wrap=True)
        table.add_column("details", overflow="fold")
        for entry in found:
            when = entry.at.strftime("%Y-%m-%d %H:%M:%S")
            table.add_row(when, Text(entry.who), entry.action, Text(words(entry.details)))
        out.print(table)
    return OK


def words(details: dict[str, Any]) -> str:
    """Details for display, without empty ones."""
    said = []
    for name, value in details.items():
        if name == "choice":
            said.append(choice_words(value))
        elif name != "started" and value not in (None, 0, False, "", [], {}):
            if isinstance(value, dict):
                value = ", ".join(f"{key} {amount}" for key, amount in value.items())
            said.append(f"{name.replace('_', ' ')} {value}" if value is not True else name)
    return "; ".join(said)
