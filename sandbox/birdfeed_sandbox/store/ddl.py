"""The CREATE TABLE of a data source, and of its quarantine."""

from __future__ import annotations

from birdfeed_sandbox.datafiles.columns import Column
from birdfeed_sandbox.datafiles.datasource import ENGINES, Datasource

#: The database that represents the workspace.
DATABASE = "workspace"

QUARANTINE_SUFFIX = "_quarantine"


def quoted(name: str) -> str:
    """A name as a quoted ClickHouse identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quarantine_of(name: str) -> str:
    """The name of a data source's quarantine table."""
    return name + QUARANTINE_SUFFIX


def create_table(datasource: Datasource) -> str:
    """CREATE TABLE with everything in the datafile: columns, indexes, engine, keys, version, TTL, settings."""
    definitions = [_definition(column) for column in datasource.columns]
    definitions += [f"INDEX {index}" for index in datasource.indexes]
    options = datasource.options
    arguments = ", ".join(options[name] for name in ENGINES[datasource.engine] if name in options)
    clauses = [
        f"CREATE TABLE {DATABASE}.{quoted(datasource.name)} (\n  " + ",\n  ".join(definitions) + "\n)",
        f"ENGINE = {datasource.engine}({arguments})",
    ]
    if "PARTITION_KEY" in options:
        clauses.append(f"PARTITION BY {_grouped(options['PARTITION_KEY'])}")
    if "PRIMARY_KEY" in options:
        clauses.append(f"PRIMARY KEY {_grouped(options['PRIMARY_KEY'])}")
    clauses.append(f"ORDER BY {_grouped(options.get('SORTING_KEY', 'tuple()'))}")
    if "SAMPLING_KEY" in options:
        clauses.append(f"SAMPLE BY {options['SAMPLING_KEY']}")
    if "TTL" in options:
        clauses.append(f"TTL {options['TTL']}")
    if "SETTINGS" in options:
        clauses.append(f"SETTINGS {options['SETTINGS']}")
    return "\n".join(clauses)


def create_quarantine(datasource: Datasource) -> str:
    """CREATE TABLE for quarantined rows: every column as received, and why each row is here."""
    columns = [f"{quoted(column.name)} Nullable(String)" for column in datasource.columns]
    return (
        f"CREATE TABLE {DATABASE}.{quoted(quarantine_of(datasource.name))} (\n"
        "  c__error_column Array(String),\n  c__error Array(String),\n  c__import_id Nullable(String),\n  "
        + ",\n  ".join(columns)
        + ",\n  insertion_date DateTime DEFAULT now()\n)\n"
        "ENGINE = MergeTree\nPARTITION BY toYYYYMM(insertion_date)\nORDER BY insertion_date"
    )


def _definition(column: Column) -> str:
    default = f" DEFAULT {column.default}" if column.default is not None else ""
    codec = f" {column.codec}" if column.codec is not None else ""
    return f"{quoted(column.name)} {column.type}{default}{codec}"


def _grouped(key: str) -> str:
    return key if key == "tuple()" else f"({key})"
