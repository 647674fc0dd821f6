"""Packages that start-up must not import: each costs every command or worker process time and memory."""

import subprocess
import sys

import pytest

from tests.support.repository import ROOT

#: What a process imports, in order, and what must not have been imported after that.
COMMANDS = (
    ("birdfeed_cli.app", "redis rq httpx pydantic rich birdfeed birdfeed_worker prometheus_client"),
    ("birdfeed_cli.operate.status", "rq httpx httpcore prometheus_client birdfeed_schemas.prices structlog"),
)
WORKERS = (
    (
        "birdfeed_worker.process.child birdfeed_worker.process.bootstrap",
        "birdfeed_worker.process.launcher birdfeed_worker.operations prometheus_client http.server genai_prices",
    ),
    ("birdfeed_worker.process.main", "birdfeed_worker.operations genai_prices starlette uvicorn tornado jinja2"),
)

CODE = """
import importlib, sys
for modules, unused in %r:
    for module in modules.split():
        importlib.import_module(module)
    found = [name for name in unused.split() if name in sys.modules]
    if found:
        sys.exit(f"{modules} imports {', '.join(found)}")
"""


def imports(cases: tuple[tuple[str, str], ...]) -> str:
    """Packages that are imported without need; empty if there are none."""
    done = subprocess.run([sys.executable, "-c", CODE % (cases,)], cwd=ROOT, capture_output=True, text=True)
    return done.stderr


@pytest.mark.parametrize("cases", [COMMANDS, WORKERS], ids=["commands", "workers"])
def test_start_up_imports_no_unused_package(cases: tuple[tuple[str, str], ...]) -> None:
    """The command line and `birdfeed status`; a worker process and its launcher."""
    assert imports(cases) == ""


@pytest.mark.parametrize("unused", ["json", "email colorsys json"])
def test_an_unused_import_is_found(unused: str) -> None:
    """The check itself, on a module of the standard library."""
    assert imports((("json", unused),)) == "json imports json\n"
