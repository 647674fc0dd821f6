"""What contributors use: targets, hooks, classifiers."""

import re
import tomllib

import yaml

from tests.support.repository import ROOT


def targets() -> set[str]:
    """The targets that `make help` shows."""
    return set(re.findall(r"^([a-z-]+):.*?## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_target_is_explained() -> None:
    """CONTRIBUTING.md's table has all that `make help` shows, and no other."""
    text = (ROOT / "CONTRIBUTING.md").read_text()

    assert set(re.findall(r"^\| `make ([a-z-]+)` \|", text, re.MULTILINE)) == targets() - {"help"}
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= targets()


def test_hooks_are_local() -> None:
    """pre-commit fetches nothing: its hooks run what `make` runs."""
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]

    assert [repository["repo"] for repository in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system"
        assert re.search(r"\.venv/bin/|^make ", hook["entry"])


def test_classifiers_begin_with_the_oldest_python() -> None:
    """requires-python, ruff and mypy name the oldest Python that the classifiers do."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    versions = re.findall(r"Python :: (3\.\d+)", " ".join(project["project"]["classifiers"]))

    assert versions == ["3.11", "3.12", "3.13"]
    assert project["project"]["requires-python"] == f">={versions[0]}"
    assert project["tool"]["mypy"]["python_version"] == versions[0]
    assert project["tool"]["ruff"]["target-version"] == f"py{versions[0].replace('.', '')}"
