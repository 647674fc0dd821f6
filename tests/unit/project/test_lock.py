"""The lock files contain all that the project's environments need, so that an install resolves nothing."""

import re
import tomllib
from typing import Any

import pytest
from packaging.dependency_groups import resolve_dependency_groups
from packaging.requirements import Requirement

from tests.support.lock import complaints, pins
from tests.support.repository import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Each lock file with the dependency group that it contains besides the project and all its extras, as in `make lock`.
LOCKS = {"dev.txt": "dev", "run.txt": "build"}


def lock(name: str) -> str:
    return (ROOT / "requirements" / name).read_text()


def roots(name: str) -> list[Requirement]:
    """The requirements for which a lock file is made."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    groups = resolve_dependency_groups(PROJECT["dependency-groups"], LOCKS[name])
    lines = [*PROJECT["project"]["dependencies"], *(line for extra in extras for line in extra), *groups]
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_has_what_the_installed_packages_require(name: str) -> None:
    """Every direct or indirect requirement, with its extras, in a version that satisfies it; and nothing else."""
    assert complaints(lock(name), roots(name)) == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_build_system_requirement_is_locked(name: str) -> None:
    """The project is installed without build isolation, so the backend comes from the lock."""
    for line in PROJECT["build-system"]["requires"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins(lock(name))[requirement.name].version)


def test_the_demo_uses_the_versions_of_the_tests() -> None:
    """The smaller lock has the same versions as the larger one."""
    dev = {name: pin.version for name, pin in pins(lock("dev.txt")).items()}
    run = {name: pin.version for name, pin in pins(lock("run.txt")).items()}

    assert run.items() <= dev.items()


@pytest.mark.parametrize("name", LOCKS)
def test_the_lock_names_no_index(name: str) -> None:
    """Lines are pins and hashes: the index is a setting of the machine."""
    for line in lock(name).splitlines():
        assert re.fullmatch(
            r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+( ; [^\\]+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?", line
        ), line


def test_a_lock_without_an_extra_is_found() -> None:
    """Each extra taken out of the lock, one by one; google-auth[requests] was missing once."""
    text, wanted = lock("dev.txt"), roots("dev.txt")
    with_extras = {name: extra for name, pin in pins(text).items() for extra in pin.extras}
    assert with_extras["google-auth"] == "requests"

    for name, extra in with_extras.items():
        fewer = re.sub(rf"^({re.escape(name)})\[{re.escape(extra)}\]", r"\1", text, flags=re.MULTILINE)
        assert fewer != text
        assert any(f"lacks the extra {extra}" in complaint for complaint in complaints(fewer, wanted)), name


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_without_a_line_is_found(name: str) -> None:
    """Each line that applies here taken out of the lock, one by one."""
    text, wanted = lock(name), roots(name)
    entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
    assert "".join(entries) == text

    unnoticed = [
        entry.splitlines()[0]
        for entry in entries
        if pins(entry) and not complaints("".join(other for other in entries if other is not entry), wanted)
    ]

    assert unnoticed == []


def test_another_version_is_found() -> None:
    """A pin below what is required, and one that is not what is installed."""
    older = re.sub(r"^orjson==\S+", "orjson==3.9", lock("run.txt"), flags=re.MULTILINE)
    newer = re.sub(r"^orjson==\S+", "orjson==999", lock("run.txt"), flags=re.MULTILINE)

    assert any("the lock has 3.9" in complaint for complaint in complaints(older, roots("run.txt")))
    assert any("is installed, the lock has 999" in complaint for complaint in complaints(newer, roots("run.txt")))


def test_an_unneeded_line_is_found() -> None:
    """What is no longer required must be removed from the lock."""
    text = lock("run.txt") + "left-over==1.0 \\\n"

    assert complaints(text, roots("run.txt")) == ["left-over: nothing requires it"]
