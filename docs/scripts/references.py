"""Generate reference pages from tables in the code: `python -m docs.scripts.references settings`, or metrics."""

import sys
from typing import Literal, get_args, get_origin

from birdfeed_cli.setup.settings import names_of, show, sides
from birdfeed_worker.monitoring.metrics import METRICS
from birdfeed_worker.monitoring.verdict import RULES
from pydantic.fields import FieldInfo


def settings() -> str:
    """docs/reference/settings.md, made from the models."""
    lines = [
        "# Settings",
        "",
        "<!-- made by `make docs`; a test fails if it is out of date -->",
        "",
        "Read from the environment; commands and workers then read `.env` in the working directory, a handler's "
        "process does not. `birdfeed settings` shows the values in force and where each comes from.",
        "",
    ]
    for side, fields in sides().items():
        title = "Both sides" if side == "both" else side.title()
        lines += [f"## {title}", "", "| setting | default | range | meaning |", "| --- | --- | --- | --- |"]
        for field, info in fields.items():
            names = " or ".join(f"`{name}`" for name in names_of(field, info))
            default = show(info.get_default(call_default_factory=True))
            lines.append(f"| {names} | `{default}` | {bounds(info)} | {info.description} |")
        lines.append("")
    return "\n".join(lines)


def bounds(info: FieldInfo) -> str:
    """The numbers that a setting takes, or the words."""
    if get_origin(info.annotation) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(info.annotation))
    found = {name: getattr(one, name) for one in info.metadata for name in ("ge", "gt", "le") if hasattr(one, name)}
    if info.annotation is int and "gt" in found:
        found["ge"] = found["gt"] + 1
    least = f"{found['ge']:,}" if "ge" in found else f"above {found['gt']:,}" if "gt" in found else ""
    most = f"to {found['le']:,}" if "le" in found else "or more" if "ge" in found else ""
    return f"{least} {most}".strip()


def metrics() -> str:
    """docs/reference/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "<!-- made by `make docs`; a test fails if it is out of date -->",
        "",
        "The launcher (`birdfeed worker`) serves `/metrics` for Prometheus, `/healthz` and `/readyz` on",
        "`BIRDFEED_METRICS_HOST`:`BIRDFEED_METRICS_PORT`. `birdfeed metrics` prints the queue's metrics without it.",
        "",
        "- `/healthz`: 200 while the launcher looks after its workers; 503 if it hangs.",
        "- `/readyz`: 200 while Redis answers and has room, a worker of this launcher is alive, and Tinybird takes",
        "  this host's token; 503 with the reason otherwise, and while it stops. It lists `birdfeed status` findings.",
        "",
        "Counters are at 0 from the start for every registered event type and every reason there is; types and reasons",
        "that are not birdfeed's own are `other`, and so are hosts beyond the first 50. A counter falls only where the",
        "Redis behind it is replaced or restored from a backup: Prometheus takes that for a restart from 0.",
        "",
        "Where Redis doesn't answer within 3 s, the page has the values that were last read, and says how old they",
        "are: `birdfeed_redis_up`, `birdfeed_values_age_seconds`. One that never reached Redis has only its own.",
        "",
        "Alerts, recording rules and a dashboard are in deploy/ ([Deploy](../how-to/deploy.md),",
        "[Service levels](../how-to/service-levels.md)).",
        "",
    ]
    for scope, about in (
        ("queue", "Read from Redis when asked, and the same from every launcher: take one of them, or `max()`."),
        ("pool", "Counted by the workers of one launcher: `sum()` over launchers. They begin at 0 with the launcher."),
    ):
        lines += [
            f"## Of the {scope}",
            "",
            about,
            "",
            "| metric | kind | labels | meaning |",
            "| --- | --- | --- | --- |",
        ]
        for one in METRICS:
            if one.scope == scope:
                labels = ", ".join(f"`{label}`" for label in one.labels)
                lines.append(f"| `{one.name}` | {one.kind} | {labels} | {one.meaning} |")
        lines.append("")
    return "\n".join(lines)


def rules() -> str:
    """The table for docs/how-to/runbook.md."""
    lines = ["| rule | found when | section |", "| --- | --- | --- |"]
    for rule in RULES:
        anchor = "".join(c for c in rule.section.lower().replace(" ", "-") if c.isalnum() or c == "-")
        mark = " (not ready)" if rule.blocks else ""
        lines.append(f"| `{rule.name}` | {rule.threshold}{mark} | [{rule.section}](#{anchor}) |")
    return "\n".join(lines)


if __name__ == "__main__":
    print({"settings": settings, "metrics": metrics}[sys.argv[1]](), end="")
