"""Stand-ins for the programs in the docs that need root, a cluster, a registry or another machine.

    python stand_ins.py STATE PROGRAM WORD...

Each checks its arguments as far as possible here, stores in the folder STATE what later calls need (which units and
secrets exist), and exits with 1 and a sentence if something is wrong. A page's block names the stand-ins with which it
is run: `<!-- run in tests with stand-ins for pip, systemctl: needs root -->`.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import yaml
from packaging.requirements import InvalidRequirement, Requirement

ROOT: Final = Path(__file__).parents[3]
#: Units that a package of the distribution installs.
OTHERS_UNITS: Final = frozenset({"redis-server"})


class WrongError(Exception):
    """What is wrong with a call."""


def need(holds: object, what: str) -> None:
    """Raise WrongError unless the condition is true."""
    if not holds:
        raise WrongError(what)


def values_of(words: Sequence[str], *options: str) -> list[str]:
    """The value of each of these options: the next word, or the text after an equals sign."""
    following = [after for before, after in pairwise(words) if before in options]
    return following + [word.partition("=")[2] for word in words if word.partition("=")[0] in options and "=" in word]


def extras_exist(extras: set[str]) -> None:
    """Whether pyproject.toml has these extras."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    need(extras <= known.keys(), f"no extra {extras - known.keys()}")


def pip(words: Sequence[str], state: Path) -> None:
    """Checks that wheels, constraints, requirements and extras exist, and that names are requirements."""
    need(words[0] == "install", f"pip {words[0]}")
    named = values_of(words, "-c", "-r")
    for file in named:
        need(Path(file).is_file() or (ROOT / file).is_file(), f"no file {file}")
    for word in words[1:]:
        if word.startswith("-") or word in named:
            continue
        path, _, extras = word.partition("[")
        if path.endswith(".whl"):
            need(Path(path).is_file(), f"no wheel {path}")
            extras_exist(set(filter(None, extras.rstrip("]").split(","))))
            continue
        try:
            wanted = Requirement(word)
        except InvalidRequirement as error:
            raise WrongError(str(error)) from None
        if wanted.name == "birdfeed":
            extras_exist(wanted.extras)


def python3(words: Sequence[str], state: Path) -> None:
    """`-m venv FOLDER` makes a folder with a pip; `-m pytest FILE` checks that the tests exist."""
    need(words[0] == "-m" and words[1] in {"venv", "pytest"}, f"python {' '.join(words)}")
    if words[1] == "pytest":
        pytest(words[2:], state)
        return
    folder = Path(words[2]) / "bin"
    folder.mkdir(parents=True)
    (folder / "pip").symlink_to(state / "bin" / "pip")


def pytest(words: Sequence[str], state: Path) -> None:
    """Checks that the test files exist, and that one of them has the marker."""
    files = [ROOT / word for word in words if word.startswith("tests/")]
    need(files, "no tests are named")
    for file in files:
        need(file.exists(), f"no tests {file}")
    texts = [one.read_text() for file in files for one in ([file] if file.is_file() else file.rglob("*.py"))]
    for marker in values_of(words, "-m"):
        need(any(f"mark.{marker}" in text for text in texts), f"no test is marked {marker}")


def make(words: Sequence[str], state: Path) -> None:
    """Runs make without executing commands: the target and its prerequisites exist."""
    done = subprocess.run(["/usr/bin/make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    need(done.returncode == 0 and done.stdout, done.stderr)


def git(words: Sequence[str], state: Path) -> None:
    """`clone` creates a folder."""
    need(words[0] == "clone", f"git {words[0]}")
    Path("birdfeed").mkdir()


def systemctl(words: Sequence[str], state: Path) -> None:
    """Checks that units that are started or stopped were installed, and reloaded by systemd since."""
    verb, *units = [word for word in words if not word.startswith("-")]
    installed = state.parent / "etc" / "systemd" / "system"
    if verb == "daemon-reload":
        (state / "units").write_text("\n".join(path.name for path in installed.iterdir()))
        return
    need(verb in {"enable", "restart", "start", "stop"} and units, f"systemctl {verb}")
    known = (state / "units").read_text().split() if (state / "units").exists() else []
    for unit in units:
        name = unit if "." in unit else f"{unit}.service"
        need(unit in OTHERS_UNITS or name in known, f"systemd has not read a unit {name}")


def journalctl(words: Sequence[str], state: Path) -> None:
    """Checks that the unit was installed."""
    for unit in values_of(words, "-u"):
        systemctl(["start", unit], state)


def curl(words: Sequence[str], state: Path) -> None:
    """Checks that the address is one of a worker or the console."""
    (url,) = [word for word in words if word.startswith("http")]
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)(/\w+)", url)
    need(found, f"not an address of birdfeed's: {url}")
    assert found is not None
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text()
    port = re.search(rf"\| `BIRDFEED_(METRICS|CONSOLE)_PORT` \| `{found[1]}` \|", settings)
    need(port, f"not a port of birdfeed's: {url}")
    pages = {"METRICS": "worker/birdfeed_worker/process/http.py", "CONSOLE": "cli/birdfeed_cli/console/app.py"}
    need(port and f'"{found[2]}"' in (ROOT / pages[port[1]]).read_text(), f"nothing answers {url}")


def apt_get(words: Sequence[str], state: Path) -> None:
    """Checks that it installs without a question."""
    need(words[:2] == ["install", "-y"] and words[2:], f"apt-get {' '.join(words)}")


def adduser(words: Sequence[str], state: Path) -> None:
    """Checks that it is the system user as which the units run."""
    unit = (ROOT / "deploy" / "systemd" / "birdfeed-worker.service").read_text()
    need("--system" in words and f"\nUser={words[-1]}\n" in unit, f"the unit has another user than {words[-1]}")


def documents(file: str) -> list[Any]:
    """The documents of a YAML file."""
    return [one for one in yaml.safe_load_all((ROOT / file).read_text()) if one]


def docker(words: Sequence[str], state: Path) -> None:
    """Checks that the Dockerfile exists, and that each service of the compose file has an image or a Dockerfile."""
    (file,) = values_of(words, "-f")
    need((ROOT / file).is_file(), f"no file {file}")
    if words[0] != "compose":
        return
    (composed,) = documents(file)
    for name, service in composed["services"].items():
        need("image" in service or "build" in service, f"{name} has no image")


def kubectl(words: Sequence[str], state: Path) -> None:
    """Checks that the secrets in manifests were created before, with the keys that they name."""
    secrets = state / "secrets"
    secrets.mkdir(exist_ok=True)
    if words[:3] == ["create", "secret", "generic"]:
        keys = [value.partition("=")[0] for value in values_of(words, "--from-literal", "--from-file")]
        (secrets / words[3]).write_text("\n".join(keys))
        return
    need(words[0] == "apply", f"kubectl {words[0]}")
    for document in documents(values_of(words, "-f")[0]):
        need(document.keys() >= {"apiVersion", "kind", "metadata"}, "a document is no object of Kubernetes")
        for name, key in referred(document):
            need((secrets / name).is_file(), f"no secret {name} was created")
            need(key in (secrets / name).read_text().split(), f"the secret {name} has no key {key}")


def referred(part: Any) -> Iterator[tuple[str, str]]:
    """(Secret, key) of each reference in a manifest."""
    if isinstance(part, dict):
        if "secretKeyRef" in part:
            yield part["secretKeyRef"]["name"], part["secretKeyRef"]["key"]
        if "secretName" in part:
            yield from ((part["secretName"], item["key"]) for item in part.get("items", ()))
        for inner in part.values():
            yield from referred(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from referred(inner)


def tb(words: Sequence[str], state: Path) -> None:
    """Checks that the current folder has a project to deploy."""
    need(words[0] in {"deploy", "push"}, f"tb {words[0]}")
    need([*Path().rglob("*.datasource")], "no data source in this folder")


PROGRAMS: Final[dict[str, Callable[[Sequence[str], Path], None]]] = {
    **{one.__name__: one for one in (pip, python3, pytest, make, git, systemctl, journalctl, curl, adduser, docker)},
    **{"apt-get": apt_get, "kubectl": kubectl, "tb": tb, "python": python3},
}


def install(names: Sequence[str], state: Path) -> Path:
    """Create a folder with stand-ins of these names, for the front of PATH."""
    folder = state / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name in {*names, "pip"}:
        assert name in PROGRAMS, f"there is no stand-in for {name}"
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" "{state}" {name} "$@"\n')
        script.chmod(0o755)
    return folder


def main() -> None:
    """Run the stand-in that the first words name."""
    state, name, *words = sys.argv[1:]
    try:
        PROGRAMS[name](words, Path(state))
    except WrongError as error:
        sys.exit(f"{name}: {error}")


if __name__ == "__main__":
    main()
