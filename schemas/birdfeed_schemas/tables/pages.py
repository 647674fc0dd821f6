"""Pages of the documentation, for hints: a host with an installed wheel doesn't have the files."""

from typing import Final

_SOURCE: Final = "docs/ of birdfeed's source"


def page(title: str, section: str = "") -> str:
    """Where to read on: "see "Runbook: Redis is full" in the documentation (where it is)".

    Args:
        title: The page's title, its first heading.
        section: A heading on it.
    """
    return f'see "{title}{section and ": "}{section}" in the documentation ({_place()})'


def _place() -> str:
    """The address in the distribution's metadata; the source where nobody has published it (.example, RFC 2606)."""
    from importlib.metadata import PackageNotFoundError, metadata  # 20 ms to import, which only a hint need cost
    from urllib.parse import urlsplit

    try:
        addresses = dict(one.split(", ", 1) for one in metadata("birdfeed").get_all("Project-URL") or [])
    except PackageNotFoundError:
        return _SOURCE
    address = addresses.get("Documentation", "")
    host = urlsplit(address).hostname or ""
    return address if host and not host.endswith(".example") else _SOURCE
