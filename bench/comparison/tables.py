"""The scenarios, and the tables of their results."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bench.comparison.peers import PEERS


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What happens while a program tracks `events` events, one each `pace` seconds.

    Attributes:
        delay: Seconds that the store takes for each answer.
        kill: The program is killed by SIGKILL after the last event, and started again.
        away: Seconds from the start in which the store answers 503.
        unanswered: Seconds from the start in which the store takes the rows and closes the connection.
        bad: Number of the event that the store refuses; -1 for none.
    """

    events: int
    pace: float
    delay: float = 0.0
    kill: bool = False
    away: float = 0.0
    unanswered: float = 0.0
    bad: int = -1


@dataclass(frozen=True, kw_only=True)
class Result:
    """Events tracked, events in the store, duplicate rows, events that wait for a retry or an operator, requests to the
    store, and the time of a call in µs.
    """

    tracked: int
    stored: int
    twice: int
    kept: int
    requests: int
    median: float
    p99: float
    longest: float

    @property
    def lost(self) -> int:
        """Events that are nowhere."""
        return self.tracked - self.stored - self.kept


SCENARIOS: Final[Mapping[str, Scenario]] = {
    "call": Scenario(events=500, pace=0.002, delay=0.05),
    "kill": Scenario(events=200, pace=0.01, delay=0.05, kill=True),
    "outage": Scenario(events=300, pace=0.05, away=20.0),
    "no answer": Scenario(events=300, pace=0.05, unanswered=10.0),
    "bad row": Scenario(events=100, pace=0.0, bad=50),
    "full queue": Scenario(events=100_000, pace=0.0002, away=20.0),
}
_PLACE: Final = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)


def duration(microseconds: float) -> str:
    """A time in a suitable unit."""
    if microseconds < 1000:
        return f"{microseconds:.1f} µs" if microseconds < 10 else f"{microseconds:.0f} µs"
    milliseconds = microseconds / 1000
    if milliseconds < 1000:
        return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"
    return f"{milliseconds / 1000:.1f} s"


def lost(result: Result) -> str:
    """A cell: events lost of those tracked, and those that are kept for a retry or an operator."""
    return f"{result.lost:,}" + (f" ({result.kept:,} {'waits' if result.kept == 1 else 'wait'})" if result.kept else "")


def tables(results: Mapping[str, Mapping[str, Result]], machine: str) -> str:
    """Markdown tables: lost events and duplicate rows by scenario, and the cost of a call."""
    lines = [
        f"Measured by `python -m bench.comparison`: {machine}.",
        "",
        "| events lost | killed (of 200) | outage (of 300) | no answer (of 300): lost, rows twice | a bad row (of 100) "
        "| full queue (of 100,000) |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    names = [name for name in PEERS if results.get(name, {}).keys() >= SCENARIOS.keys()]
    for name in names:
        of = results[name]
        full = of["full queue"]
        short = "" if full.tracked == SCENARIOS["full queue"].events else f"; tracked {full.tracked:,} in 120 s"
        cells = [
            lost(of["kill"]),
            lost(of["outage"]),
            f"{lost(of['no answer'])}, {of['no answer'].twice:,}",
            lost(of["bad row"]),
            lost(full) + short,
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "| what a call takes | median | 99th percentile | longest of 100,000 in the outage | requests for 100 events |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in names:
        call, full = results[name]["call"], results[name]["full queue"]
        times = (call.median, call.p99, full.longest)
        lines.append(f"| {name} | {' | '.join(map(duration, times))} | {results[name]['bad row'].requests:,} |")
    return "\n".join(lines) + "\n"


def with_tables(page: str, made: str) -> str:
    """The page with its tables replaced by these."""
    new, count = _PLACE.subn(lambda found: f"{found[1]}\n{made}\n{found[2]}", page)
    if count != 1:
        raise ValueError("the page has no place for the tables")
    return new
