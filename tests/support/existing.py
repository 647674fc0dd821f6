"""The llm_events that many workspaces hold already, made from Tinybird's LLM template, as a datafile."""

import json

from tests.support.repository import DATA

#: Its columns, types, paths and defaults, as a live workspace has them. Engine and keys are those of the template.
COLUMNS = DATA / "llm_events_existing.json"
ENGINE = """
ENGINE "MergeTree"
ENGINE_PARTITION_KEY "toYYYYMM(timestamp)"
ENGINE_SORTING_KEY "timestamp, organization, project, model"
"""


def columns() -> list[dict[str, str | None]]:
    """column, type, json_path and default of each."""
    found: list[dict[str, str | None]] = json.loads(COLUMNS.read_text())["columns"]
    return found


def existing_datasource() -> str:
    """Its .datasource file."""
    lines = []
    for column in columns():
        default = f" DEFAULT {column['default']}" if column["default"] is not None else ""
        lines.append(f"    `{column['column']}` {column['type']} `json:{column['json_path']}`{default}")
    return "SCHEMA >\n" + ",\n".join(lines) + "\n" + ENGINE
