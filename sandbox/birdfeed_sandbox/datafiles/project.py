"""A folder of datafiles: `datasources/*.datasource` and `endpoints/*.pipe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from birdfeed_sandbox.datafiles.datasource import Datasource, load_datasource
from birdfeed_sandbox.datafiles.pipe import Pipe, load_pipe
from birdfeed_sandbox.errors import SandboxError


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """The data sources and pipes of a folder, each by its name."""

    datasources: Mapping[str, Datasource]
    pipes: Mapping[str, Pipe] = field(default_factory=dict)


def load_project(folder: Path) -> Project:
    """Read a folder of datafiles.

    Raises:
        SandboxError: The folder isn't there, or holds no data source.
        DatafileError: One of its files is wrong.
    """
    datasources = [load_datasource(path) for path in sorted(folder.glob("datasources/*.datasource"))]
    if not datasources:
        raise SandboxError(f"there is no datasources/*.datasource in {folder}")
    pipes = [load_pipe(path) for path in sorted(folder.glob("endpoints/*.pipe"))]
    taken = {datasource.name for datasource in datasources} & {pipe.name for pipe in pipes}
    if taken:
        raise SandboxError(f"{', '.join(sorted(taken))}: a data source and a pipe can't share a name")
    return Project(
        datasources={datasource.name: datasource for datasource in datasources},
        pipes={pipe.name: pipe for pipe in pipes},
    )


def packaged_project() -> Path:
    """The folder of the project that comes with birdfeed."""
    return Path(str(resources.files("birdfeed_schemas"))) / "data"
