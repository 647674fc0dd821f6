"""Compare a lock file with the requirements of the installed packages, extras included.

`pip check` ignores extras, and pip resolves again where a lock lacks a package.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One line of a lock file that applies to this Python and this machine."""

    name: str
    version: str
    extras: frozenset[str]


#: What a package (its canonical name) requires, markers and extras unevaluated; None where it is not installed.
Metadata = Callable[[str], tuple[str, tuple[Requirement, ...]] | None]


@cache
def installed(name: str) -> tuple[str, tuple[Requirement, ...]] | None:
    """The version of an installed package and its requirements; None if it is not installed."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return found.version, tuple(Requirement(line) for line in found.requires or ())


def applies(requirement: Requirement, extras: Iterable[str] = ()) -> bool:
    """Whether a requirement's marker is true here, with one of some extras or without any."""
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def pins(text: str) -> dict[str, Pin]:
    """A lock file's lines that apply here, by canonical name.

    Raises:
        InvalidRequirement: A line is not a requirement.
        ValueError: A line doesn't pin exactly one version.
    """
    made = [_pin(line) for line in text.splitlines() if line[:1].strip()]
    return {pin.name: pin for pin in made if pin is not None}


@cache
def _pin(line: str) -> Pin | None:
    """Parse a line; None if it doesn't apply here. Cached, as the same lines are parsed many times."""
    requirement = Requirement(line.removesuffix("\\").strip())
    (specifier,) = requirement.specifier
    if specifier.operator != "==":
        raise ValueError(f"{line}: not pinned")
    if not applies(requirement):
        return None
    name = canonicalize_name(requirement.name)
    return Pin(name=name, version=specifier.version, extras=frozenset(requirement.extras))


def complaints(text: str, roots: Iterable[Requirement], metadata: Metadata = installed) -> list[str]:
    """What is wrong with a lock, one sentence each; empty if everything that `roots` need is in it.

    Args:
        text: The lock file.
        roots: The requirements for which the lock is made.
        metadata: Gives a package's version and requirements.
    """
    locked = pins(text)
    found: set[str] = set()
    met: set[tuple[str, frozenset[str]]] = set()
    to_visit = [("the project", root) for root in roots if applies(root)]
    while to_visit:
        parent, requirement = to_visit.pop()
        name = canonicalize_name(requirement.name)
        wanted = frozenset(requirement.extras)
        pin = locked.get(name)
        if pin is None:
            found.add(f"{parent} requires {requirement}: not in the lock")
            continue
        if not requirement.specifier.contains(pin.version, prereleases=True):
            found.add(f"{parent} requires {requirement}: the lock has {pin.version}")
        if missing := wanted - pin.extras:
            found.add(f"{parent} requires {requirement}: the lock lacks the extra {', '.join(sorted(missing))}")
        if (name, wanted) in met:
            continue
        met.add((name, wanted))
        known = metadata(name)
        if known is None or known[0] != pin.version:
            found.add(f"{name}: {known and known[0]} is installed, the lock has {pin.version}")
            continue
        to_visit += [(name, inner) for inner in known[1] if applies(inner, wanted)]
    found.update(f"{name}: nothing requires it" for name in locked.keys() - {name for name, _ in met})
    return sorted(found)
