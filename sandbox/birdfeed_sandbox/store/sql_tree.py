"""Check what a statement does by the engine's own syntax tree, with an allow-list of statements and table functions.

The tree is the text of `EXPLAIN AST`: one node per line, indented by a space per level. The engine itself has parsed
the statement, so that nothing can be hidden by comments, quoting or case.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from birdfeed_sandbox.datafiles.datasource import ENGINES
from birdfeed_sandbox.errors import QueryError
from birdfeed_sandbox.store.ddl import DATABASE

#: Table functions that make rows only from their arguments. All others access files, hosts, programs, other databases.
TABLE_FUNCTIONS = frozenset(
    {"generateSeries", "generate_series", "null", "numbers", "numbers_mt", "values", "view", "zeros", "zeros_mt"}
)
#: Other functions that read files, contact hosts or models, block the engine, or reveal facts about this machine.
_CLOSED_FUNCTIONS = re.compile(
    r"file|filesystem\w*|dict(Get|Has|IsIn)\w*|joinGet\w*|ai[A-Za-z]+|eval\w*|naiveBayesClassifier\w*|catboost\w*"
    r"|sleep\w*|address\w+|logTrace|getServer\w+|getMacro|getMergeTreeSetting|getOSKernelVersion|tcpPort|serverUUID"
    r"|(full)?hostname|fqdn|showCertificate|zookeeper\w*|generateSerialID|hasColumnInTable|reverseDNS\w*|lemmatize"
    r"|synonyms|stem",
    re.IGNORECASE,
)
_SYSTEM_DATABASES = ("system", "information_schema")

#: Statements allowed to the admin token, by the kind of the tree's first node. None writes outside the workspace.
_STATEMENTS = frozenset(
    {
        "AlterQuery", "CheckQuery", "CreateQuery", "DeleteQuery", "DescribeQuery", "DropQuery", "ExistsTableQuery",
        "Explain", "InsertQuery", "OptimizeQuery", "SYSTEM", "SelectWithUnionQuery", "ShowCreateTableQuery",
        "ShowTables", "TruncateQuery",
    }
)  # fmt: skip
_ALTERATIONS = re.compile(
    r"(ADD|DROP|MODIFY|COMMENT|RENAME|CLEAR|MATERIALIZE)_(COLUMN|INDEX|TTL)|DELETE|UPDATE|DROP_PARTITION"
)
_ENGINES = frozenset({*ENGINES, "Memory", "Null"})

_NODE = re.compile(r"(?P<indent> *)(?P<kind>\w+) *(?P<name>.*?)( \(alias .*\))?( \(children \d+\))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a syntax tree.

    Attributes:
        kind: Its kind, such as `Function` or `TableIdentifier`.
        name: The text after the kind: a function's or a table's name.
        parents: The kinds of the nodes around it, the outermost first.
    """

    kind: str
    name: str
    parents: tuple[str, ...]


def nodes_of(tree: str) -> Iterator[Node]:
    """The nodes of an `EXPLAIN AST`'s text, in its order."""
    above: list[str] = []
    for line in tree.split("\n"):
        match = _NODE.fullmatch(line)
        if match is None:
            if line.strip():
                raise QueryError("[Error] The query's syntax tree can't be read. (SYNTAX_ERROR)")
            continue
        depth = len(match["indent"])
        del above[depth:]
        yield Node(match["kind"], match["name"], tuple(above))
        above.append(match["kind"])


def check_read(tree: str, settings: int) -> None:
    """Check by its `EXPLAIN AST` that a query stays within the workspace.

    Raises:
        QueryError: It isn't one SELECT, or it reads from elsewhere (403).
    """
    nodes = list(nodes_of(tree))
    if not nodes or nodes[0].kind != "SelectWithUnionQuery":
        raise QueryError("Only SELECT queries are supported", status=403)
    _check_sources(nodes, settings)
    for node in nodes:
        database, dot, _ = node.name.partition(".")
        if node.kind == "TableIdentifier" and dot and database != DATABASE:
            raise QueryError(f"Not enough permissions for the database '{database}'", status=403)
        # In `x IN system.one` a table's name appears as an identifier, like a column's.
        if node.kind == "Identifier" and dot and database.lower() in _SYSTEM_DATABASES:
            raise QueryError(f"Not enough permissions for the database '{database}'", status=403)


def check_statement(tree: str, settings: int) -> None:
    """Check that an admin statement accesses only the engine's tables: no files, hosts or programs.

    Raises:
        QueryError: It does more (403).
    """
    nodes = list(nodes_of(tree))
    if not nodes or nodes[0].kind not in _STATEMENTS:
        kind = nodes[0].kind if nodes else "nothing"
        raise QueryError(f"the sandbox doesn't run this kind of statement: {kind}", status=403)
    _check_sources(nodes, settings)
    engine = next((after for node, after in pairwise(nodes) if node.kind == "Storage"), None)
    if engine is not None and engine.name not in _ENGINES:
        raise QueryError(f"the sandbox has no tables of the engine {engine.name}", status=403)
    for node in nodes:
        if node.kind == "AlterCommand" and not _ALTERATIONS.fullmatch(node.name):
            raise QueryError(f"the sandbox doesn't run ALTER TABLE ... {node.name}", status=403)
        if node.kind in ("Dictionary", "ViewTargets"):
            raise QueryError("the sandbox has no dictionaries and no materialised views", status=403)
        # INSERT INTO FUNCTION file(...), CREATE TABLE ... AS file(...): a function right below the statement.
        if node.kind == "Function" and node.parents in (("InsertQuery",), ("CreateQuery",)):
            raise QueryError(f"The query uses disabled table functions: '{node.name}'", status=403)


def _check_sources(nodes: list[Node], settings: int) -> None:
    """Check functions, paths, and that the tree has as many SETTINGS clauses as sql_guard counted in the text."""
    for node in nodes:
        if node.kind == "Function":
            of_table = node.parents[-1:] == ("TableExpression",)
            if (of_table and node.name not in TABLE_FUNCTIONS) or _CLOSED_FUNCTIONS.fullmatch(node.name):
                raise QueryError(f"The query uses disabled table functions: '{node.name}'", status=403)
        # The path of INTO OUTFILE and of FROM INFILE.
        if node.kind == "Literal" and node.parents in (("SelectWithUnionQuery",), ("InsertQuery",)):
            raise QueryError("INTO OUTFILE and FROM INFILE are not supported", status=403)
    if sum(node.kind == "Set" for node in nodes) != settings:
        raise QueryError("[Error] SETTINGS can't be read. (SYNTAX_ERROR)")
