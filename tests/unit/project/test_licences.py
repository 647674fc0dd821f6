"""All packages that are installed with birdfeed have a licence that requires only attribution."""

import re
from email.message import Message
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata

import pytest

from tests.support.repository import ROOT

#: Permissive licences, and MPL-2.0, whose conditions concern changes to its own files alone. SPDX names, and the texts
#: of packages without them.
ALLOWED = frozenset(
    {
        "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "PSF-2.0", "Zlib",
        "Apache Software License", "BSD License", "ISC License (ISCL)", "MIT License",
        "Mozilla Public License 2.0 (MPL 2.0)", "Python Software Foundation License",
    }
)  # fmt: skip
RUN = ROOT / "requirements" / "run.txt"


def licence(of: PackageMetadata) -> str:
    """A package's licence in its metadata: an SPDX expression, or its classifiers, each of which it has."""
    said = dict(of.items()) if isinstance(of, Message) else {}
    if expression := said.get("License-Expression"):
        return str(expression)
    classifiers = [one.split(" :: ")[-1] for one in of.get_all("Classifier") or [] if one.startswith("License ::")]
    return " AND ".join(classifiers) or str(said.get("License", "")).partition("\n")[0]


def refused(expression: str) -> list[str]:
    """The parts of a licence that are not allowed; of those that may be chosen from, one must be."""
    plain = re.sub(r"\((?!ISCL|MPL)|(?<!ISCL)(?<!2\.0)\)", "", expression)
    return [part for part in plain.split(" AND ") if not ALLOWED.intersection(part.split(" OR "))]


def test_every_package_has_a_licence_that_is_allowed() -> None:
    """Except the few packages that this platform doesn't install."""
    names = sorted(set(re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==", RUN.read_text(), re.MULTILINE)))
    found, absent = {}, []
    for name in names:
        try:
            found[name] = licence(metadata(name))
        except PackageNotFoundError:
            absent.append(name)

    assert len(found) > 30
    assert len(absent) < 5
    assert {name: text for name, text in found.items() if refused(text)} == {}


@pytest.mark.parametrize(
    ("expression", "parts"),
    [
        ("MIT", []),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", []),
        ("GPL-3.0-only OR MIT", []),
        ("ISC License (ISCL)", []),
        ("MIT AND GPL-3.0-only", ["GPL-3.0-only"]),
        ("GNU General Public License v3 (GPLv3)", ["GNU General Public License v3 GPLv3"]),
        ("", [""]),
    ],
)
def test_forbidden_licences(expression: str, parts: list[str]) -> None:
    assert refused(expression) == parts
