"""Tinybird's own parser reads our datafiles, and reads them as the sandbox does."""

import re
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pytest
from birdfeed_sandbox.datafiles.project import load_project, packaged_project
from birdfeed_sandbox.errors import SandboxError
from birdfeed_sandbox.store.templates import SqlTemplate

from tests.store.parser import environment, parse
from tests.support.repository import ROOT
from tests.support.servers.redis_servers import MUST_HAVE_ALL
from tests.support.tools import NotInstallableError

#: The first run installs the parser.
pytestmark = pytest.mark.timeout(400)

RENDERINGS: list[dict[str, str]] = [
    {},
    {"every": "hour", "by": "tier", "timezone": "Europe/Berlin", "top": "3"},
    {"every": "day", "since": "2026-10-24 00:00:00", "until": "2026-10-27 00:00:00", "model": "it's", "user": "a\\b%"},
    {"every": "total", "tier": "seed", "provider": "azure", "environment": "x", "order": "tokens", "limit": "5"},
    {"every": "year"},
    {"by": "traceback"},
]


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python that has the parser."""
    try:
        return environment()
    except NotInstallableError as error:
        if MUST_HAVE_ALL:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def read(python: Path) -> dict[str, Any]:
    """Our project as Tinybird reads it."""
    with as_file(files("birdfeed_schemas") / "data") as project:
        return parse(python, project, RENDERINGS)


def test_every_datafile_is_valid(read: dict[str, Any]) -> None:
    """None is refused or missing."""
    assert {name: said["error"] for name, said in read.items() if "error" in said} == {}
    assert {"llm_events.datasource", "image_events.datasource", "birdfeed_cost.pipe"} <= set(read)


def test_datasources_are_read_as_the_sandbox_reads_them(read: dict[str, Any]) -> None:
    """Columns, types, paths, defaults, engine, indexes: tests on the sandbox are valid for Tinybird."""
    for name, ours in load_project(packaged_project()).datasources.items():
        theirs = read[f"{name}.datasource"]
        columns = [
            [c.name, "".join(c.type.split()), c.path, None if c.default is None else f"DEFAULT {c.default}"]
            for c in ours.columns
        ]
        assert [[n, "".join(t.split()), p, d] for n, t, p, d in theirs["columns"]] == columns
        options = {option.lower(): value for option, value in ours.options.items()}
        assert theirs["engine"] == [ours.engine, options]
        assert [one.removeprefix("INDEX ") for one in theirs["indexes"]] == list(ours.indexes)
        assert theirs["tokens"] == [[token.name, token.permission] for token in ours.tokens]


def test_templates_are_rendered_as_the_sandbox_renders_them(read: dict[str, Any]) -> None:
    """The same SQL for the same parameters, and the same refusals; so answers of the sandbox are Tinybird's."""
    for name, ours in load_project(packaged_project()).pipes.items():
        for node in ours.nodes:
            theirs = read[f"{name}.pipe"]["nodes"][node.name]
            for parameters, rendered in zip(RENDERINGS, theirs, strict=True):
                assert squeezed(rendered) == squeezed(rendering(node.sql, parameters, template=node.template))


def rendering(sql: str, parameters: dict[str, str], *, template: bool) -> str:
    if not template:
        return sql
    try:
        return SqlTemplate(sql, path="", line=1).render(parameters)
    except SandboxError as error:
        return f"error: {error}"


def squeezed(sql: str) -> str:
    """Without differences in white space; only whether it is an error, as the texts differ."""
    return "error" if sql.startswith("error: ") else re.sub(r"\s+", " ", sql).strip()


def test_the_migration_is_valid(python: Path, tmp_path: Path) -> None:
    """docs/how-to/migrate.md's FORWARD_QUERY at the end of the shipped datafile."""
    [block] = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "how-to" / "migrate.md").read_text(), re.DOTALL)
    (tmp_path / "datasources").mkdir()
    shipped = (files("birdfeed_schemas") / "data" / "datasources" / "llm_events.datasource").read_text()
    (tmp_path / "datasources" / "llm_events.datasource").write_text(f"{shipped}\n{block}")

    [said] = parse(python, tmp_path, []).values()

    assert "error" not in said, said
    assert said["forward_query"].split()[0] == "SELECT"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("datasources/a.datasource", "SCHEMA >\n    `a` Strin g `json:$.a`, `b`\n"),
        ("datasources/a.datasource", 'SCHEMA >\n    `a` String `json:$.a`\n\nENGINE "NoTree"\nENGINE_SORTING_KEY\n'),
        ("endpoints/a.pipe", "NODE a\nSQL >\n    %\n    SELECT {{ nope( }}\n\nTYPE endpoint\n"),
        ("endpoints/a.pipe", "NODE a\nSQL >\n    SELECT FROM WHERE\n\nTYPE endpoint\n"),
    ],
)
def test_the_parser_refuses_invalid_files(python: Path, tmp_path: Path, name: str, text: str) -> None:
    """Otherwise the tests above would prove nothing."""
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(text)

    [said] = parse(python, tmp_path, [{}]).values()

    assert "error" in said or any("error" in one for node in said["nodes"].values() for one in node), said
