"""No message says "1 events": a count and its noun are put together by counted(), not by hand."""

import ast
import re
from collections.abc import Iterator

import pytest
from birdfeed_schemas.tables.counted import counted

from tests.support.repository import ROOT

SOURCES = ("schemas", "producer", "worker", "cli", "sandbox")
NOUNS = [
    "batches",
    "corrections",
    "events",
    "entries",
    "files",
    "hosts",
    "jobs",
    "keys",
    "kinds",
    "letters",
    "lines",
    "mismatches",
    "minutes",
    "models",
    "prices",
    "problems",
    "processes",
    "requests",
    "rows",
    "times",
    "tokens",
    "users",
    "variants",
    "workers",
]
#: A noun after a count, perhaps with an adjective between: " waiting jobs". After "1 of 2" a plural is right.
WORDS = rf"(?:(?:dead|missing|more|waiting|tracked) )?(?:{'|'.join(NOUNS)})\b(?!/)"
AFTER_COUNT = re.compile(" " + WORDS)
IN_LOG = re.compile("(?<! of )%d (?:%s )?" + WORDS)


def glued(text: str) -> Iterator[str]:
    """`line: text` of each count in a module's messages whose noun is always in the plural, except fixed counts."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            before = ""
            for value, after in zip(node.values, [*node.values[1:], None], strict=True):
                if isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant):
                    said = ast.unparse(value.value)
                    found = AFTER_COUNT.match(str(after.value))
                    if found and not said.isupper() and is_number(value) and not before.endswith(" of "):
                        yield f"{node.lineno}: {said}{found[0]}"
                before = str(value.value) if isinstance(value, ast.Constant) else ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for found in IN_LOG.finditer(node.value):
                yield f"{node.lineno}: {found[0]}"


def is_number(value: ast.FormattedValue) -> bool:
    """Whether it can be a count: not a call that has made text of it, nor anything written with !r or as a share."""
    called = isinstance(value.value, ast.Call) and ast.unparse(value.value.func) not in {"len", "sum", "abs"}
    shape = ast.unparse(value.format_spec) if value.format_spec else ""
    return not called and value.conversion == -1 and "%" not in shape and "f" not in shape.strip("f'\"")


#: Counts that are never 1, or names: file, and the printed expression.
RIGHT = {
    "cli/birdfeed_cli/console/overview.py": {"each minutes"},
    "cli/birdfeed_cli/operate/ledger.py": {"name events"},
    "sandbox/birdfeed_sandbox/datafiles/lines.py": {"kind files"},
    "worker/birdfeed_worker/monitoring/verdict.py": {"ends times"},
    "cli/birdfeed_cli/prices/book.py": {"10 ** 6 tokens"},
    "worker/birdfeed_worker/operations/unpriced.py": {"10 ** 6 tokens"},
}


@pytest.mark.parametrize("root", SOURCES)
def test_a_count_and_its_noun_agree(root: str) -> None:
    """The message has the place: write counted(number, "event") there."""
    found = []
    for path in sorted((ROOT / root).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        found += [
            f"{name}:{line}" for line in glued(path.read_text()) if line.split(": ")[1] not in RIGHT.get(name, ())
        ]
    assert found == [], "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('f"{n} events are back"', ["1: n events"]),
        ('f"{len(found):,} waiting jobs"', ["1: len(found) waiting jobs"]),
        ('log.info("%d rows", n)', ["1: %d rows"]),
        ('log.info("%d of %d rows", n, of)', []),
        ("f\"{counted(n, 'event')} events\"", []),
        ('f"{n} of {m} rows"', []),
        ('f"{rate:.1f} events/s"', []),
        ('f"{MOST} events"', []),
    ],
)
def test_a_planted_plural_is_found(source: str, expected: list[str]) -> None:
    """The check itself."""
    assert list(glued(source)) == expected


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("event",), "1 event"),
        (0, ("event",), "0 events"),
        (1_921, ("event",), "1,921 events"),
        (1, ("job is", "jobs are"), "1 job is"),
        (2, ("job is", "jobs are"), "2 jobs are"),
    ],
)
def test_counted(number: int, words: tuple[str, ...], expected: str) -> None:
    """One event, many events; with its verb if one is given."""
    assert counted(number, *words) == expected
