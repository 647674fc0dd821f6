"""Docs that can't drift: what the code can do stands in them."""

import ast
import re

import pytest
from birdfeed_cli.app import app
from birdfeed_cli.setup.settings import reference
from birdfeed_worker.monitoring.metrics import reference as metrics_reference
from typer.main import get_command

from tests.support.repository import ROOT


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


def reasons() -> set[str]:
    """Every reason of a dead letter that the workers' code makes."""
    found: set[str] = set()
    for path in (ROOT / "worker" / "birdfeed_worker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                at = {"Dead": 0, "Unreadable": 1}.get(node.func.id)
                if at is not None and len(node.args) > at and isinstance(node.args[at], ast.Constant):
                    found.add(str(ast.literal_eval(node.args[at])))
    return found


def test_every_reason_of_a_dead_letter_is_in_the_docs() -> None:
    """In the operator's table, with what it means; the runbook says what to type."""
    table = (ROOT / "docs" / "operator.md").read_text().split("## Dead letters")[1].split("\n\n| command")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    runbook = (ROOT / "docs" / "runbook.md").read_text()

    assert {"invalid", "undecodable", "kills_worker"} <= reasons()
    assert listed == reasons()
    assert [reason for reason in reasons() if f"`{reason}`" not in runbook] == []


def commands() -> list[str]:
    """Every command, groups included, as one types it; not the hidden former words."""
    found = []

    def walk(command: object, path: str) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            if inner.hidden:
                continue
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
