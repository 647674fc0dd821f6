"""Compare a data source's live columns with what workers send. Pure; schema_check.py asks Tinybird."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from birdfeed_schemas.datafiles import Column
from birdfeed_schemas.tables.pages import page


class LiveColumn(NamedTuple):
    """A live column: its type, and if visible its JSON path, whether rows must have a value, and its default."""

    type: str
    path: str | None = None
    required: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference from what workers send.

    Attributes:
        column: The column, or "".
        problem: no_table, no_scope, no_column, narrow_type, wrong_type, other_path, other_default, required_column or
            template.
        said: A sentence about it and its consequence.
    """

    datasource: str
    column: str
    problem: str
    said: str

    def __str__(self) -> str:
        return f"{self.datasource}{f'.{self.column}' if self.column else ''} {self.said}"


#: The problems by which values are lost or rows refused. The others are changes that were chosen with the table, and
#: are reported once.
LOSING: Final = frozenset(
    {"no_table", "no_scope", "no_column", "wrong_type", "other_path", "other_default", "required_column"}
)
#: Column → the path from which the llm_events of Tinybird's LLM template reads it, which differs from birdfeed's.
TEMPLATE_PATHS: Final = {"cost": "$.cost", "response_status": "$.standard_logging_object_status"}
#: Columns that a sentence names at most.
_NAMED: Final = 8
#: Mismatches that one line names at most.
_SAID: Final = 3
_WRAPPED: Final = re.compile(r"(?:LowCardinality|Nullable)\((.*)\)")
_WHOLE: Final = re.compile(r"(U?)Int(\d+)")
_PRECISION: Final = {"Decimal32": 9, "Decimal64": 18, "Decimal128": 38, "Decimal256": 76}
#: Integer digits that costs can have (events.py: at most 10^15 USD).
_COST_DIGITS: Final = 16


def in_one_line(said: Sequence[str]) -> str:
    """Mismatches on one line; only the first few are named."""
    more = f"; and {len(said) - _SAID} more" if len(said) > _SAID else ""
    return f"the data sources don't match: {'; '.join(said[:_SAID])}{more} (`birdfeed tinybird check` shows all)"


def compare(
    datasource: str,
    ours: Sequence[Column],
    live: Mapping[str, LiveColumn],
    sent: Collection[str],
    left_out: Collection[str] = (),
) -> list[Mismatch]:
    """All differences of a live data source by which values would be lost, changed or quarantined.

    Args:
        ours: The columns that birdfeed ships for it.
        live: The columns that it has.
        sent: Every JSON path in birdfeed's rows.
        left_out: Those of them that a row may lack if the value is the default.
    """
    found = list(_missing(datasource, ours, live))
    for column in ours:
        if column.name not in live:
            continue
        is_ = live[column.name]
        if is_.path is not None and is_.path not in (column.path, TEMPLATE_PATHS.get(column.name)):
            said = f"reads {is_.path}, birdfeed sends it as {column.path}: it would always hold its default"
            found.append(Mismatch(datasource, column.name, "other_path", said))
        if is_.required and is_.path in left_out:
            said = (
                f"has no default, and birdfeed leaves {is_.path} out where it says nothing: rows would be quarantined"
            )
            found.append(Mismatch(datasource, column.name, "required_column", said))
        problem = type_problem(is_.type, column.type)
        if problem is not None:
            found.append(Mismatch(datasource, column.name, *problem))
    names = {column.name for column in ours}
    for name, is_ in live.items():
        if name not in names and is_.required and is_.path is not None and not _is_sent(is_.path, sent):
            said = f"has no default and reads {is_.path}, which birdfeed doesn't send: every row would be quarantined"
            found.append(Mismatch(datasource, name, "required_column", said))
    return found


def _missing(datasource: str, ours: Sequence[Column], live: Mapping[str, LiveColumn]) -> Iterator[Mismatch]:
    missing = [column for column in ours if column.name not in live]
    if "event_id" not in live and {"id", "message_id", "timestamp"} <= set(live):
        names = [column.name for column in missing]
        shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
        said = (
            "is the table of Tinybird's LLM template: rows are stored in it, but these fields are not stored: "
            f"{shown}; to store them, {page('Migrate an existing llm_events')}"
        )
        yield Mismatch(datasource, "", "template", said)
        return
    for column in missing:
        yield Mismatch(datasource, column.name, "no_column", f"is missing: {column.path} would not be stored")


def _is_sent(path: str, sent: Collection[str]) -> bool:
    """Whether rows have something at this path: a value, or an object of values."""
    return path in sent or any(one.startswith(f"{path}.") for one in sent)


def type_problem(live: str, ours: str) -> tuple[str, str] | None:
    """What goes wrong when values for a column of type `ours` are written to one of type `live`: a code and a sentence.

    None if nothing goes wrong: the types are equal, or `live` can hold at least as much.
    """
    live_type, our_type = bare(live), bare(ours)
    if live_type == our_type:
        return None
    narrow = _narrow(live_type, our_type)
    if narrow is not None:
        return ("narrow_type", f"is {live} where birdfeed needs {ours}: {narrow}") if narrow else None
    return "wrong_type", f"is {live} where birdfeed sends {ours}: rows would be quarantined"


def _narrow(live: str, ours: str) -> str | None:
    """What a type of the same kind can't hold; "" if it can hold everything; None if it is of another kind."""
    our_whole, live_whole = _WHOLE.fullmatch(ours), _WHOLE.fullmatch(live)
    if our_whole and live_whole:
        largest = 2 ** (int(live_whole[2]) - (not live_whole[1])) - 1
        # Counts are from 0 to 2^63 - 1, or to their own type's largest value.
        needed = min(2 ** int(our_whole[2]) - 1, 2**63 - 1)
        return "" if largest >= needed else f"a number over {largest:,} is changed silently"
    if ours.startswith("Float") and live.startswith("Float"):
        return "" if live == "Float64" else "only 7 digits are kept"
    if ours.startswith("Decimal"):
        return _narrow_decimal(live, ours)
    if ours.startswith("DateTime") and live.startswith("DateTime"):
        return _narrow_time(live, ours)
    if ours == "Bool" and live == "UInt8":
        return ""
    if ours == "String" and live.startswith(("FixedString", "Enum")):
        return "other texts are quarantined"
    return None


def _narrow_decimal(live: str, ours: str) -> str | None:
    if live.startswith("Float"):
        return "sums are inexact, and costs can't be recomputed to the last digit"
    if not live.startswith("Decimal"):
        return None
    (precision, scale), (_, our_scale) = _decimal(live), _decimal(ours)
    if scale < our_scale:
        return f"costs are cut to {scale} places"
    return "" if precision - scale >= _COST_DIGITS else f"a cost of 10^{precision - scale} USD doesn't fit"


def _decimal(type_: str) -> tuple[int, int]:
    """Digits and places of a Decimal type."""
    name, _, arguments = type_.rstrip(")").partition("(")
    numbers = [int(number) for number in arguments.split(",")]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (_PRECISION[name], numbers[0])


def _narrow_time(live: str, ours: str) -> str:
    def places(type_: str) -> int:
        match = re.match(r"DateTime64\((\d)", type_)
        return int(match[1]) if match is not None else 0

    kept = places(live)
    return "" if kept >= places(ours) else f"times are cut to {f'{kept} places of a second' if kept else 'seconds'}"


def bare(type_: str) -> str:
    """A type without LowCardinality(...), Nullable(...) and spaces."""
    text = "".join(type_.split())
    while (match := _WRAPPED.fullmatch(text)) is not None:
        text = match[1]
    return text
