"""The Tinybird project: the datafiles of birdfeed and of installed packages that add event types.

A package that adds an event type keeps its datafiles next to its code, as birdfeed does:
data/datasources/<name>.datasource and data/endpoints/<name>.pipe.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from birdfeed_schemas.registry import registry
from birdfeed_schemas.tables.former import FORMER

#: Folder of the project → the suffix of its files.
_FOLDERS: Final = {"datasources": ".datasource", "endpoints": ".pipe"}
_COLUMN: Final = re.compile(
    r"^\s+`(?P<name>\w+)` (?P<type>.+?) `json:(?P<path>\$[^`]*)`(?P<default> DEFAULT )?", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a data source: its ClickHouse type, the JSON path it reads, and whether a row may omit it."""

    name: str
    type: str
    path: str
    optional: bool


def datafiles() -> Mapping[str, str]:
    """Path in the project, such as `datasources/llm_events.datasource` → the datafile's text.

    Raises:
        ValueError: Two packages have a file with the same path.
    """
    found: dict[str, str] = {}
    packages = dict.fromkeys(event_type.row.__module__.partition(".")[0] for event_type in registry().values())
    for package in packages:
        for path, text in _files_of(package):
            if path in found:
                raise ValueError(f"two installed packages have a {path}; rename the one in {package}")
            found[path] = text
    return found


def _files_of(package: str) -> Iterator[tuple[str, str]]:
    for folder, ending in _FOLDERS.items():
        place = files(package) / "data" / folder
        if place.is_dir():
            for file in sorted(place.iterdir(), key=lambda one: one.name):
                if file.name.endswith(ending):
                    yield f"{folder}/{file.name}", file.read_text(encoding="utf-8")


@cache
def columns_of(datasource: str) -> tuple[Column, ...]:
    """The columns that a data source should have; empty if no package has its datafile."""
    text = datafiles().get(f"datasources/{datasource}.datasource", "")
    return tuple(
        Column(match["name"], match["type"], match["path"], match["default"] is not None)
        for match in _COLUMN.finditer(text)
    )


def former_columns(datasource: str) -> tuple[Column, ...]:
    """The columns that a data source had in earlier versions of its datafile; a live table may still have them."""
    return tuple(Column(one.name, one.type, one.path, one.default is not None) for one in FORMER.get(datasource, ()))


def paths_of(row: type[Struct], prefix: str = "$") -> dict[str, FieldInfo]:
    """Every JSON path in rows → its field; a row may lack the paths of fields with a default."""
    found: dict[str, FieldInfo] = {}
    for field in fields(row):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            found.update(paths_of(field.type, f"{prefix}.{field.name}"))
        else:
            found[f"{prefix}.{field.name}"] = field
    return found


def datasources() -> Mapping[str, type[Struct]]:
    """Every data source that the workers write to → the model of its rows."""
    return {event_type.datasource: event_type.row for event_type in registry().values()}
