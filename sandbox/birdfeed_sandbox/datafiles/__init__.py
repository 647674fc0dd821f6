"""Reads Tinybird's datafiles. It uses only the standard library: no engine, no web server."""

from birdfeed_sandbox.datafiles.columns import Column
from birdfeed_sandbox.datafiles.datasource import Datasource, Token, load_datasource, parse_datasource
from birdfeed_sandbox.datafiles.paths import EACH, JsonPath, parse_path
from birdfeed_sandbox.datafiles.pipe import Node, Pipe, load_pipe, parse_pipe
from birdfeed_sandbox.datafiles.project import Project, load_project, packaged_project
from birdfeed_sandbox.errors import DatafileError

__all__ = [
    "EACH",
    "Column",
    "DatafileError",
    "Datasource",
    "JsonPath",
    "Node",
    "Pipe",
    "Project",
    "Token",
    "load_datasource",
    "load_pipe",
    "load_project",
    "packaged_project",
    "parse_datasource",
    "parse_path",
    "parse_pipe",
]
