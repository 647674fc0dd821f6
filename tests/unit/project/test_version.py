"""One version: birdfeed/_version.py names it, everything else repeats it."""

import re
from importlib.metadata import version

import birdfeed
from birdfeed_cli.app import app
from typer.testing import CliRunner

from tests.support.repository import ROOT


def test_package_metadata_command_and_changelog_agree() -> None:
    """Where the metadata differs, the editable install is older than the file: `make test` installs it anew."""
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
