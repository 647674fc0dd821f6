"""Docs that can't drift: everything that the code can do is in them."""

import ast
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import get_args

import birdfeed
import pytest
from birdfeed.checks.findings import EXIT_CODES
from birdfeed.stats import REASONS
from birdfeed_cli.app import app
from birdfeed_cli.common import console
from birdfeed_cli.prices.estimate import run_estimate
from birdfeed_schemas.enrichment import CostStatus, PriceMatch, PriceSource, TierSource, UsageStatus
from birdfeed_schemas.fields import COMMON, IMAGE_GENERATION, TEXT_GENERATION
from birdfeed_schemas.tables.meters import METERS
from birdfeed_worker.monitoring.minutes import DROP_REASONS, FORGOTTEN
from typer.main import get_command

from docs.scripts import api_reference, apps, cli_reference, columns, folders, references
from docs.scripts.pictures import FOLDER, PICTURES
from tests.support.repository import DOCS, ROOT


def test_the_settings_reference_is_up_to_date() -> None:
    """docs/reference/settings.md is made from the models: `make docs` writes it."""
    assert (DOCS / "reference" / "settings.md").read_text() == references.settings()


def test_the_metrics_reference_is_up_to_date() -> None:
    """docs/reference/metrics.md is made from the table of metrics: `make docs` writes it."""
    assert (DOCS / "reference" / "metrics.md").read_text() == references.metrics()


def test_the_command_reference_is_up_to_date() -> None:
    """docs/reference/cli.md is made from the commands: `make docs` writes it."""
    assert (DOCS / "reference" / "cli.md").read_text() == cli_reference.reference()


def test_the_api_reference_is_up_to_date() -> None:
    """docs/reference/api.md is made from the docstrings: `make docs` writes it."""
    assert (DOCS / "reference" / "api.md").read_text() == api_reference.reference()


def test_the_api_reference_has_every_public_name() -> None:
    """All that `birdfeed` exports and that each public module defines, with a description."""
    page = (DOCS / "reference" / "api.md").read_text()
    entries = dict(re.findall(r"^### (\w+)\n\n(?:```text\n.*?```\n\n)?(.*?)$", page, re.MULTILINE | re.DOTALL))
    integrations = {path.stem for path in (ROOT / "producer/birdfeed/integrations").glob("*.py")}
    names = {*birdfeed.__all__, *(name for module in api_reference.MODULES for name in api_reference.public(module))}

    assert entries.keys() == names - {"__version__"}
    assert [name for name, meaning in entries.items() if not re.match(r"[\w`\[]", meaning)] == []
    # sdk_calls is shared by three of them.
    assert {f"birdfeed.integrations.{name}" for name in integrations - {"__init__", "sdk_calls"}} < {
        *api_reference.MODULES
    }


def test_the_architecture_names_every_folder() -> None:
    """Its tables are made from the folders' docstrings: `make docs` writes them."""
    page = folders.PAGE.read_text()

    assert page == folders.page()
    assert [folder for folder in code_folders() if f"| `{folder}` | " not in page] == []


def code_folders() -> set[str]:
    """Every folder that holds Python files, below its package."""
    return {
        found.parent.relative_to(ROOT / package).as_posix()
        for package in folders.PACKAGES
        for found in (ROOT / package).rglob("*.py")
    } - {"."}


def test_the_pictures_are_up_to_date() -> None:
    """They are drawn by a script: `make docs` writes them."""
    assert {draw.__name__: draw().svg() for draw in PICTURES} == {
        path.stem: path.read_text() for path in FOLDER.glob("*.svg")
    }


def test_every_page_that_is_named_exists() -> None:
    """`docs/...md` in sources, tests and pages outside docs/."""
    named = {
        (str(path.relative_to(ROOT)), page)
        for top in ("schemas", "producer", "worker", "sandbox", "cli", "tests", "bench", "examples")
        for path in (*(ROOT / top).rglob("*.py"), *(ROOT / top).rglob("*.md"), *ROOT.glob("*.md"), ROOT / "Makefile")
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())
    }

    assert len(named) > 20
    assert [(where, page) for where, page in sorted(named) if not (ROOT / page).is_file()] == []


def test_every_setting_has_a_meaning() -> None:
    """No row of the reference ends without a description."""
    for line in references.settings().splitlines():
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
    """In the table of reasons, with its meaning; the runbook has the commands."""
    table = (DOCS / "reference" / "outcomes.md").read_text().split("## Reasons of dead letters")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    runbook = (DOCS / "how-to" / "runbook.md").read_text()

    assert {"invalid", "undecodable", "kills_worker"} <= reasons()
    assert listed == reasons()
    assert [reason for reason in reasons() if f"`{reason}`" not in runbook] == []


def listed(page: str, title: str) -> set[str]:
    """The names in the first column of the table of a section."""
    section = (DOCS / "reference" / page).read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE))


@pytest.mark.parametrize(
    ("title", "values"),
    [
        ("cost_status", get_args(CostStatus)),
        ("usage_status", get_args(UsageStatus)),
        ("price_source", get_args(PriceSource)),
        ("price_match", get_args(PriceMatch)),
        ("tier_source", get_args(TierSource)),
    ],
)
def test_every_status_is_in_the_docs(title: str, values: tuple[str, ...]) -> None:
    """With its meaning; and the page names no other."""
    assert listed("statuses.md", title) == set(values)


def test_every_reason_of_a_drop_is_in_the_docs() -> None:
    """The producer's, and an operator's own."""
    assert listed("outcomes.md", "Reasons of drops") == {*REASONS, FORGOTTEN}
    assert set(REASONS) == DROP_REASONS


def exit_codes(source: str) -> set[str]:
    """The exit codes in a module: numbers, and names of numbers."""
    numbers = dict(re.findall(r"^(\w+): Final = (\d+)$", source, re.MULTILINE))
    ends = re.findall(r"(?:sys\.exit|os\._exit|SystemExit)\((\d+ \+ \w+|\w+)\)", source)
    return {
        re.sub(r"\+ \w+", "+ signal", code) for code in (numbers.get(end, end) for end in ends) if code[0].isdigit()
    }


def test_every_exit_code_is_in_the_docs() -> None:
    """Of the commands, the workers and the producer's hook; and the page names no other."""
    section = (DOCS / "reference" / "outcomes.md").read_text().split("\n## Exit codes\n")[1].split("\n## ")[0]
    sources = [path for top in ("cli", "worker", "producer") for path in (ROOT / top).rglob("*.py")]
    commands = {console.OK, console.PARTLY, console.USAGE, console.UNREACHABLE, *EXIT_CODES.values()}
    used = {code for path in sources for code in exit_codes(path.read_text())} | set(map(str, commands))

    assert "70" in used
    assert set(re.findall(r"^\| ([\w +]+?) \|", section, re.MULTILINE)) - {"code"} == used


def test_a_planted_exit_code_is_found() -> None:
    """The check itself: a number, a name of one, and a sum."""
    source = "GONE: Final = 71\nsys.exit(9)\nos._exit(GONE)\nraise SystemExit(128 + number)\nsys.exit(main())"

    assert exit_codes(source) == {"9", "71", "128 + signal"}


def test_the_columns_reference_is_up_to_date() -> None:
    """docs/reference/columns.md is generated from the datafiles: `make docs` writes it."""
    assert (DOCS / "reference" / "columns.md").read_text() == columns.page()


def test_the_whole_apps_are_the_examples() -> None:
    """docs/how-to/whole-apps.md is made from examples/: `make docs` writes it; each file but the provider is in it."""
    assert (DOCS / "how-to" / "whole-apps.md").read_text() == apps.page()
    assert {*apps.APPS.values(), "provider.py"} == {file.name for file in apps.EXAMPLES.glob("*.py")}


def test_every_column_has_a_meaning() -> None:
    """A new column without one is named here, and so is a meaning without a column."""
    there = {name for found in columns.columns().values() for name, _, _ in found}
    meters = {meter.column for meter in METERS}

    assert there - meters == columns.MEANINGS.keys()
    assert {meter.name for meter in METERS} == columns._COUNTED.keys()


def test_the_source_of_a_column_is_a_field() -> None:
    """That a handler can send."""
    fields = {*COMMON, *TEXT_GENERATION, *IMAGE_GENERATION}
    named = {field for field, _ in columns.MEANINGS.values() if re.fullmatch(r"\w+", field)}

    assert named <= fields


def test_links_outside_the_site_work() -> None:
    """Those of README and the like, with their anchors; mkdocs checks those between the site's pages."""
    broken = []
    for page in sorted(ROOT.glob("*.md")):
        for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            linked = ROOT / path if path else page
            if not linked.exists() or (anchor and anchor not in anchors(linked)):
                broken.append((page.name, target))
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def commands() -> list[str]:
    """Every command, groups included, as it is typed; not the hidden former names."""
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
    """README or a page written by hand name it."""
    pages = {ROOT / "README.md", *DOCS.rglob("*.md")} - {DOCS / "reference" / "cli.md"}
    texts = [page.read_text() for page in pages]
    assert any(command in text for text in texts), f"no document names `{command}`"


def test_the_costs_in_the_readme_are_what_its_events_cost(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its two events, through `prices estimate`."""
    readme = (ROOT / "README.md").read_text()
    lines = [line.strip() for line in readme.splitlines() if line.startswith('    {"event_type"')]
    (tmp_path / "events").write_text("\n".join(lines))

    assert run_estimate(str(tmp_path / "events"), None, as_json=True) == 0

    costs = [Decimal(json.loads(line)["cost"]) for line in capsys.readouterr().out.splitlines()]
    assert [f"${cost.normalize():f}" for cost in costs] == ["$0.00435", "$0.334"]
    assert all(f"${cost.normalize():f} " in readme for cost in costs)
