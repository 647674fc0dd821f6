"""Each version of llm_events as a datafile: that of Tinybird's LLM template, birdfeed's former and its present one."""

import json
from importlib.resources import files

from birdfeed_schemas.tables.former import DEFAULTS, FORMER

from tests.support.repository import DATA

#: The template's columns, types, paths and defaults, as in a live workspace. Engine and keys are the template's.
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
    """The template's .datasource file."""
    lines = []
    for column in columns():
        default = f" DEFAULT {column['default']}" if column["default"] is not None else ""
        lines.append(f"    `{column['column']}` {column['type']} `json:{column['json_path']}`{default}")
    return "SCHEMA >\n" + ",\n".join(lines) + "\n" + ENGINE


def shipped(datasource: str = "llm_events") -> str:
    """The present .datasource file."""
    return (files("birdfeed_schemas") / "data" / "datasources" / f"{datasource}.datasource").read_text()


def former_datasource() -> str:
    """birdfeed's former .datasource file: with the former columns and their defaults."""
    text = shipped()
    for name, was in (
        ("event_type", ""),
        ("status", "unknown"),
        ("cost_status", "unpriced"),
        ("usage_status", "missing"),
    ):
        now = f"`json:$.{name}` DEFAULT '{DEFAULTS[name]}'"
        assert text.count(now) == 1
        text = text.replace(now, f"`json:$.{name}`" + (f" DEFAULT '{was}'" if was else ""))
    lines = [
        f"    `{one.name}` {one.type} `json:{one.path}`"
        + (f" DEFAULT {one.default}" if one.default is not None else "")
        for one in FORMER["llm_events"]
    ]
    return text.replace("SCHEMA >\n", "SCHEMA >\n" + "".join(f"{line},\n" for line in lines))
