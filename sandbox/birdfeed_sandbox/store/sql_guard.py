"""What the sandbox must know of a query before the engine sees it: that it is one SELECT, and which names it uses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from birdfeed_sandbox.errors import QueryError

#: ClickHouse's max_query_size: 256 kB.
MAX_QUERY_BYTES = 262_144

#: The formats a query may ask for, and the content type of each.
FORMATS = {
    "JSON": "application/json; charset=utf-8",
    "JSONCompact": "application/json; charset=utf-8",
    "JSONStrings": "application/json; charset=utf-8",
    "JSONEachRow": "application/x-ndjson; charset=utf-8",
    "CSV": "text/csv; charset=utf-8",
    "CSVWithNames": "text/csv; charset=utf-8",
    "TSV": "text/tab-separated-values; charset=utf-8",
    "TSVWithNames": "text/tab-separated-values; charset=utf-8",
    "TabSeparated": "text/tab-separated-values; charset=utf-8",
    "TabSeparatedWithNames": "text/tab-separated-values; charset=utf-8",
    "PrettyCompact": "text/plain; charset=utf-8",
    "Parquet": "application/vnd.apache.parquet",
}

_TOKEN = re.compile(
    r"""  (?P<space>  \s+ | --[^\n]* | \#[\ !][^\n]* | /\*.*?\*/ )
        | (?P<string> '(?:[^'\\]|\\.|'')*' | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
        | (?P<quoted> `(?:[^`\\]|\\.)*` | "(?:[^"\\]|\\.)*" )
        | (?P<word>   [A-Za-z_]\w* )
        | (?P<number> \d[\w.]* )
        | (?P<sign>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Functions that reach out of the workspace: other files, hosts and programs.
_OUTSIDE = re.compile(
    r"(file|url|s3|gcs|hdfs|azureBlobStorage|remote|remoteSecure|executable|python|input|loop|mysql|postgresql|mongodb"
    r"|redis|sqlite|jdbc|odbc|iceberg\w*|deltaLake\w*|hudi|paimon\w*|arrowFlight|ytsaurus)(Cluster)?",
    re.IGNORECASE,
)
_FOREIGN_DATABASES = ("system", "information_schema")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of SQL that means something. `depth`: how many parentheses stand open around it."""

    kind: str
    text: str
    depth: int
    start: int

    def is_word(self, word: str) -> bool:
        """Whether it is this keyword, in any case."""
        return self.kind == "word" and self.text.upper() == word


def tokens_of(sql: str) -> list[Token]:
    """A query's tokens, blanks and comments left out."""
    tokens = []
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "sign"
        text = match[0]
        if kind == "space":
            continue
        depth -= text == ")"
        tokens.append(Token(kind, text, depth, match.start()))
        depth += text == "("
    return tokens


@dataclass(frozen=True, slots=True)
class Select:
    """One SELECT.

    Attributes:
        sql: Its text, without a closing semicolon.
        output: The ClickHouse format it asks for, or None.
        names: Every word in it that may be the name of a table.
    """

    sql: str
    output: str | None
    names: frozenset[str]


def check_select(sql: str) -> Select:
    """Make sure that a query is one SELECT that stays within the workspace.

    Raises:
        QueryError: It isn't; the message is for whoever sent it.
    """
    if len(sql.encode()) > MAX_QUERY_BYTES:
        raise QueryError(
            "[Error] Max query size exceeded (can be increased with the `max_query_size` setting):"
            f" Syntax error: failed at position {MAX_QUERY_BYTES}. (SYNTAX_ERROR)"
        )
    tokens = tokens_of(sql)
    while tokens and tokens[-1].text == ";":
        sql = sql[: tokens.pop().start]
    if not tokens:
        raise QueryError("The query is empty")
    if any(token.text == ";" for token in tokens):
        raise QueryError("[Error] Multi-statements are not allowed. (SYNTAX_ERROR)")
    first = next((token for token in tokens if token.text != "("), tokens[0])
    if not (first.is_word("SELECT") or first.is_word("WITH")):
        raise QueryError(f"Only SELECT queries are supported. Got: {first.text.upper()[:40]}", status=403)
    _check_inside(tokens)
    names = frozenset(token.text.strip('`"') for token in tokens if token.kind in ("word", "quoted"))
    return Select(sql, _output(tokens), names)


def with_ctes(sql: str, ctes: Iterable[tuple[str, str]]) -> str:
    """The query with others in front of it, each to be used by its name."""
    defined = ",\n".join(f"`{name}` AS (\n{query}\n)" for name, query in ctes)
    if not defined:
        return sql
    first = tokens_of(sql)[0]
    if first.is_word("WITH"):
        return f"WITH {defined},\n{sql[first.start + len(first.text) :]}"
    return f"WITH {defined}\n{sql}"


def _check_inside(tokens: list[Token]) -> None:
    for token, after in pairwise(tokens):
        name = token.text.strip('`"')
        if token.kind not in ("word", "quoted"):
            continue
        if after.text == "(" and _OUTSIDE.fullmatch(name):
            raise QueryError(f"The query uses disabled table functions: '{name}'", status=403)
        if after.text == "." and name.lower() in _FOREIGN_DATABASES:
            raise QueryError(f"Not enough permissions for the database '{name}'", status=403)
        if token.is_word("INTO") and after.is_word("OUTFILE"):
            raise QueryError("INTO OUTFILE is not supported", status=403)


def _output(tokens: list[Token]) -> str | None:
    for position in range(len(tokens) - 1, 0, -1):
        word, name = tokens[position - 1], tokens[position]
        ends = position + 1 == len(tokens) or tokens[position + 1].is_word("SETTINGS")
        if word.is_word("FORMAT") and word.depth == 0 and name.kind == "word" and ends:
            if name.text not in FORMATS:
                raise QueryError(f"[Error] Unknown format {name.text}. Known: {', '.join(FORMATS)}. (UNKNOWN_FORMAT)")
            return name.text
    return None
