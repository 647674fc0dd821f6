"""One version: birdfeed/_version.py names it, everything else repeats it."""

import re
from importlib.metadata import version

import birdfeed
from birdfeed_cli.app import app
from typer.testing import CliRunner

from tests.support.repository import ROOT


def test_package_metadata_command_and_changelog_agree() -> None:
    """If the metadata differs, the editable install is older than the file: `make test` installs it again."""
    told = CliRunner().invoke(app, ["--version"])
    entries = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert told.exit_code == 0
    assert [version("birdfeed"), told.output.strip(), entries[0]] == [birdfeed.__version__] * 3


def test_the_version_is_written_once() -> None:
    """No other file of the sources or of the build names it."""
    places = [ROOT / "pyproject.toml", ROOT / "Makefile"]
    for folder in ("schemas", "producer", "worker", "cli", "sandbox"):
        places += (ROOT / folder).rglob("*.py")

    naming = [path.name for path in places if f'"{birdfeed.__version__}"' in path.read_text()]

    assert naming == ["_version.py"]


def test_the_support_page_agrees_with_the_package() -> None:
    """Python's versions and rq's."""
    project = (ROOT / "pyproject.toml").read_text()
    page = (ROOT / "docs" / "reference" / "support.md").read_text()
    pythons = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project)
    (rq,) = re.findall(r'"rq>=([\d.]+),<', project)

    assert f"| Python | {', '.join(pythons)} |" in page
    assert f"| rq on worker machines | {rq} |" in page


def test_every_sdk_is_tested_in_the_version_that_its_page_names() -> None:
    """That in the lock file."""
    locked = dict(re.findall(r"^([\w-]+)==(\d+\.\d+)", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    page = (ROOT / "docs" / "how-to" / "sdks.md").read_text()
    named = dict(re.findall(r"\| ([\w-]+) (\d+\.\d+) \|$", page, re.MULTILINE))

    assert len(named) == 5
    assert {name: locked[name] for name in named} == named
