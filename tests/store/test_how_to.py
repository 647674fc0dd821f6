"""docs/how-to/add-an-event-type.md, followed exactly: a separate package, no change to birdfeed's."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from birdfeed_sandbox import Sandbox

from tests.support.repository import ROOT
from tests.support.servers.redis_servers import valkey
from tests.support.servers.system import System

PAGE = (ROOT / "docs" / "how-to" / "add-an-event-type.md").read_text()
#: The operator's price: 12.5 s at 0.02 USD are 0.25 USD.
BOOK = """
[[model]]
name = "acme-tts"
provider = "acme"
unit = "second"
price = { audio_second = 0.02 }
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the page's package is installed."""
    folder = tmp_path_factory.mktemp("acme")
    files = dict(re.findall(r"^`([\w./-]+)`:\n\n```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    assert sorted(files) == [
        "acme_birdfeed/audio.py",
        "acme_birdfeed/data/datasources/audio_events.datasource",
        "pyproject.toml",
        "tests/test_audio.py",
    ]
    for name, text in {**files, "acme_birdfeed/__init__.py": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    site = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(site), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("BIRDFEED_", "TINYBIRD_"))},
        "PYTHONPATH": os.pathsep.join([str(site), *(entry for entry in sys.path if entry)]),
        "ACME": str(folder),
    }


def test_the_packages_own_test_passes(environment: dict[str, str]) -> None:
    """Step 4."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=environment["ACME"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.fixture(scope="module")
def project(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Step 5: what `birdfeed tinybird init` writes where the package is installed."""
    folder = tmp_path_factory.mktemp("tinybird") / "project"
    done = subprocess.run(
        [sys.executable, "-c", "from birdfeed_cli.__main__ import main; main()", "tinybird", "init", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def system(environment: dict[str, str], project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Redis, a sandbox with that project, and settings with the operator's price."""
    folder = tmp_path_factory.mktemp("system")
    (folder / "prices.toml").write_text(BOOK)
    with (
        valkey(folder / "valkey") as url,
        Sandbox(project=project) as sandbox,
        System(
            url,
            sandbox,
            folder,
            PYTHONPATH=environment["PYTHONPATH"],
            BIRDFEED_PRICE_BOOK=str(folder / "prices.toml"),
            BIRDFEED_SCHEMA_CHECK="refuse",
        ) as system,
    ):
        yield system


def test_the_new_data_source_is_checked(system: System) -> None:
    """Step 5: the live columns fit."""
    done = system.run("tinybird", "check")

    assert (done.returncode, done.stderr) == (0, "")
    assert "audio_events" in done.stdout


def test_an_event_is_delivered_and_priced(system: System) -> None:
    """The page's last lines run in a handler's process; the row is priced by the operator's book."""
    handler = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-1]
    system.start_pool(1)
    done = subprocess.run(
        [sys.executable, "-c", handler],
        env=system.environment,
        cwd=system.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    system.drained()

    [row] = system.sandbox.sql("SELECT *, toString(cost) AS usd FROM audio_events")
    assert (row["event_type"], row["model"], row["voice"], row["user"]) == ("audio_generation", "acme-tts", "ash", "u1")
    assert (row["audio_seconds"], row["usd"], row["cost_status"], row["provider"]) == (12.5, "0.25", "priced", "acme")
    assert (row["tier"], int(row["dropped_fields"])) == ("unknown", 0)
    assert system.dead() == []
    assert system.ledger() == {"accepted:audio_generation": 1, "written:audio_generation": 1}
