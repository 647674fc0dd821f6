"""Check a query before the engine runs it: that it is one SELECT, and which names it uses.

sql_tree finds out from the engine's syntax tree what the query reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from birdfeed_sandbox.errors import QueryError

#: ClickHouse's max_query_size: 256 kB.
MAX_QUERY_BYTES = 262_144

#: Format that a query may request → its content type.
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
#: Quotes that open nothing, and curly quotes, which the engine also treats as quotes.
_STRAY_QUOTES = frozenset("'\"`\u2018\u2019\u201c\u201d")
#: Settings that a query may choose: none that names a file or contains SQL, as additional_table_filters does.
_SETTINGS = re.compile(
    r"final|do_not_merge_across_partitions_select_final|join_(algorithm|use_nulls|default_strictness)|group_by_use_nulls"
    r"|max_(threads|block_size|execution_time|memory_usage|(result_)?rows(_to_read|_to_group_by)?|bytes_to_read)"
    r"|max_bytes_before_external_(group_by|sort)|output_format_(json|csv|tsv|pretty|parquet|decimal|write)_\w+"
    r"|optimize_\w+|date_time_output_format|union_default_mode|cast_keep_nullable|aggregate_functions_null_for_empty"
    r"|index_granularity(_bytes)?|ttl_only_drop_parts|(mutations|alter|lightweight_deletes)_sync"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token of SQL other than white space and comments. `depth`: the number of open parentheses around it."""

    kind: str
    text: str
    depth: int
    start: int

    def is_word(self, word: str) -> bool:
        """Whether it is this keyword, in any case."""
        return self.kind == "word" and self.text.upper() == word


def tokens_of(sql: str) -> list[Token]:
    """A query's tokens, without white space and comments."""
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
        output: The ClickHouse format that it requests, or None.
        names: Every word in it that may be the name of a table.
        settings: How many SETTINGS clauses it has.
    """

    sql: str
    output: str | None
    names: frozenset[str]
    settings: int


def check_select(sql: str) -> Select:
    """Check that a query is one SELECT, with harmless settings.

    Raises:
        QueryError: It isn't; the message is for the sender.
    """
    if len(sql.encode()) > MAX_QUERY_BYTES:
        raise QueryError(
            "[Error] Max query size exceeded (can be increased with the `max_query_size` setting):"
            f" Syntax error: failed at position {MAX_QUERY_BYTES}. (SYNTAX_ERROR)"
        )
    sql, tokens = _one_statement(sql)
    first = next((token for token in tokens if token.text != "("), tokens[0])
    if not (first.is_word("SELECT") or first.is_word("WITH")):
        raise QueryError(f"Only SELECT queries are supported. Got: {first.text.upper()[:40]}", status=403)
    names = frozenset(token.text.strip('`"') for token in tokens if token.kind in ("word", "quoted"))
    return Select(sql, _output(tokens), names, _settings(tokens))


def check_text(sql: str) -> tuple[str, int]:
    """Check that a text is one statement, with harmless settings.

    Returns:
        The statement without a closing semicolon, and the number of its SETTINGS clauses.

    Raises:
        QueryError: It isn't.
    """
    sql, tokens = _one_statement(sql)
    _output(tokens)
    if tokens[0].is_word("SYSTEM") and not _is_merges(tokens):
        raise QueryError("of the SYSTEM statements, the sandbox runs START MERGES and STOP MERGES", status=403)
    return sql, _settings(tokens)


def with_ctes(sql: str, ctes: Iterable[tuple[str, str]]) -> str:
    """The query with others in front of it as common table expressions."""
    defined = ",\n".join(f"`{name}` AS (\n{query}\n)" for name, query in ctes)
    if not defined:
        return sql
    first = tokens_of(sql)[0]
    if first.is_word("WITH"):
        return f"WITH {defined},\n{sql[first.start + len(first.text) :]}"
    return f"WITH {defined}\n{sql}"


def _one_statement(sql: str) -> tuple[str, list[Token]]:
    tokens = tokens_of(sql)
    while tokens and tokens[-1].text == ";":
        sql = sql[: tokens.pop().start]
    if not tokens:
        raise QueryError("The query is empty")
    for token in tokens:
        if token.text == ";":
            raise QueryError("[Error] Multi-statements are not allowed. (SYNTAX_ERROR)")
        if token.kind == "sign" and token.text in _STRAY_QUOTES:
            raise QueryError(f"[Error] A quote is not closed: {token.text} at {token.start}. (SYNTAX_ERROR)")
        # They would break the lines of the syntax tree.
        if token.kind == "quoted" and ("\\" in token.text or not token.text.isprintable()):
            raise QueryError("[Error] A quoted name holds an escape or a control character. (SYNTAX_ERROR)")
    if any(token.is_word("INTO") and after.is_word("OUTFILE") for token, after in pairwise(tokens)):
        raise QueryError("INTO OUTFILE is not supported", status=403)
    return sql, tokens


def _settings(tokens: list[Token]) -> int:
    clauses = 0
    for position, token in enumerate(tokens):
        after = tokens[position + 1 : position + 3]
        if token.is_word("SETTINGS") and len(after) == 2 and after[0].kind == "word" and after[1].text == "=":
            clauses += 1
            _check_settings(token.depth, tokens[position:])
    return clauses


def _check_settings(depth: int, clause: list[Token]) -> None:
    """Check each `name = value` of a clause; a name alone, which the engine reads as true, is refused as well."""
    for position, token in enumerate(clause):
        if token.depth < depth or any(map(token.is_word, ("FORMAT", "UNION", "EXCEPT", "INTERSECT"))):
            return
        if token.depth == depth and (position == 0 or token.text == ","):
            name, equals = (*(one.text for one in clause[position + 1 : position + 3]), "", "")[:2]
            if equals != "=" or not _SETTINGS.fullmatch(name):
                raise QueryError(f"Setting {name[:100]} should not be changed", status=403)


def _is_merges(tokens: list[Token]) -> bool:
    return len(tokens) > 2 and tokens[1].text.upper() in ("START", "STOP") and tokens[2].is_word("MERGES")


def _output(tokens: list[Token]) -> str | None:
    for position in range(len(tokens) - 1, 0, -1):
        word, name = tokens[position - 1], tokens[position]
        ends = position + 1 == len(tokens) or tokens[position + 1].is_word("SETTINGS")
        if word.is_word("FORMAT") and word.depth == 0 and name.kind == "word" and ends:
            if name.text not in FORMATS:
                raise QueryError(f"[Error] Unknown format {name.text}. Known: {', '.join(FORMATS)}. (UNKNOWN_FORMAT)")
            return name.text
    return None
