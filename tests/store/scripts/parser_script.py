"""Runs in the parser's environment: parses every datafile of a folder with Tinybird's own code and prints JSON."""

import json
import sys
from importlib import import_module  # by name: type checkers run where Tinybird's package is not installed
from pathlib import Path
from typing import Any


def datasource(path: Path) -> dict[str, Any]:
    """Columns, engine and tokens of a data source."""
    file = import_module("tinybird.datafile.parse_datasource").parse_datasource(str(path), ignore_secrets=True).datafile
    [node] = file.nodes
    return {
        "columns": [[c["name"], c["type"], c["jsonpath"], c["default_value"]] for c in node["columns"]],
        "engine": [node["engine"]["type"], dict(node["engine"]["args"])] if "engine" in node else None,
        "indexes": [index.to_sql() for index in node.get("indexes") or ()],
        "tokens": [[token["token_name"], token["permission"]] for token in file.tokens],
        "forward_query": file.forward_query,
    }


def pipe(path: Path, renderings: list[dict[str, str]]) -> dict[str, Any]:
    """Nodes of a pipe, each rendered with each set of parameters (an error's text where it refuses one)."""
    render_sql_template = import_module("tinybird.sql_template").render_sql_template
    file = import_module("tinybird.datafile.parse_pipe").parse_pipe(str(path), ignore_secrets=True).datafile
    nodes: dict[str, list[str]] = {}
    for node in file.nodes:
        sql = node["sql"].strip()
        nodes[node["name"]] = []
        for parameters in renderings:
            try:
                rendered = (
                    render_sql_template(sql[1:], dict(parameters), name=node["name"])[0] if sql[:1] == "%" else sql
                )
            except Exception as error:
                rendered = f"error: {error}"
            nodes[node["name"]].append(rendered)
    return {"nodes": nodes, "tokens": [[token["token_name"], token["permission"]] for token in file.tokens]}


def main() -> None:
    """Read the folder, print what is in it."""
    project, renderings = Path(sys.argv[1]), json.load(sys.stdin)
    found: dict[str, Any] = {}
    for path in sorted([*project.glob("datasources/*.datasource"), *project.glob("endpoints/*.pipe")]):
        try:
            found[path.name] = datasource(path) if path.suffix == ".datasource" else pipe(path, renderings)
        except Exception as error:
            found[path.name] = {"error": f"{type(error).__name__}: {error}"}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
