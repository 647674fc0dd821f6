"""Docs that can't drift: what the code can do stands in them."""

from pathlib import Path

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.settings import reference
from birdfeed_worker.metrics import reference as metrics_reference
from typer.main import get_command

ROOT = Path(__file__).parents[2]


def test_the_settings_reference_is_up_to_date() -> None:
    """docs/settings.md is made from the models: `make docs` writes it."""
    assert (ROOT / "docs" / "settings.md").read_text() == reference()


def test_the_metrics_reference_is_up_to_date() -> None:
    """docs/metrics.md is made from the table of metrics: `make docs` writes it."""
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_reference()


def test_every_setting_has_a_meaning() -> None:
    """No row of the reference ends without a description."""
    for line in reference().splitlines():
        if line.startswith("| `"):
            assert not line.endswith("| None |"), line


def commands() -> list[str]:
    """Every command, groups included, as one types it."""
    found = []

    def walk(command: object, path: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            if getattr(inner, "commands", None):
                walk(inner, f"{path} {name}")
            else:
                found.append(f"{path} {name}")

    walk(get_command(app), "birdfeed")
    return found


@pytest.mark.parametrize("command", commands())
def test_every_command_is_in_the_docs(command: str) -> None:
    """README or docs/ name it."""
    texts = [path.read_text() for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))]
    assert any(command in text for text in texts), f"no document names `{command}`"
