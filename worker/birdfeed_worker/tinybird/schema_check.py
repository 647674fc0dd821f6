"""Schema check: ask Tinybird whether its data sources fit what workers send, before any row is lost."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from birdfeed_schemas.datafiles import columns_of, datasources, former_columns, paths_of
from birdfeed_schemas.tables.former import DEFAULTS, is_short
from msgspec import UNSET

from birdfeed_worker.errors import ConfigurationError, QueryError, TinybirdError
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.decide import REFUSED
from birdfeed_worker.tinybird.schema_compare import LiveColumn, Mismatch, compare, in_one_line

log = logging.getLogger(__name__)

#: A line that is not JSON: a token that may append gets 400, one that may not gets 403, and nothing is written.
_BROKEN: Final = b'{"birdfeed check":'


def check_at_start(tinybird: Tinybird, mode: Literal["off", "warn", "refuse"]) -> list[Mismatch] | None:
    """Warn of all mismatches, or refuse. If Tinybird can't be asked, that is not a reason to refuse: it may be away.

    Returns the mismatches; None if they aren't known.

    Raises:
        ConfigurationError: Something doesn't fit, and the mode is refuse.
    """
    if mode == "off":
        return None
    if not tinybird.can_read:
        log.warning("the data sources' columns can't be checked: TINYBIRD_READ_TOKEN is not set")
        return None
    try:
        found = check_schemas(tinybird)
    except TinybirdError as error:
        log.warning("the data sources' columns can't be checked: %s", error)
        return None
    if found and mode == "refuse":
        said = "; ".join(str(mismatch) for mismatch in found)
        raise ConfigurationError(f"the data sources don't match (BIRDFEED_SCHEMA_CHECK=refuse): {said}")
    if found:
        log.warning("%s", in_one_line([str(mismatch) for mismatch in found]))
    return found


def check_schemas(tinybird: Tinybird) -> list[Mismatch]:
    """The mismatches in all data sources of the registry.

    Raises:
        QuotaError: The read quota is used up.
        QueryError: Tinybird can't be reached, or doesn't know the token.
    """
    return [mismatch for datasource in datasources() for mismatch in _check(tinybird, datasource)]


def _check(tinybird: Tinybird, datasource: str) -> Iterator[Mismatch]:
    tinybird.forget_columns(datasource)
    try:
        types = tinybird.columns(datasource)
    except QueryError as error:
        yield _unreadable(tinybird, datasource, error)
        return
    live = _with_paths(tinybird, datasource, types)
    sent = paths_of(datasources()[datasource])
    left_out = {path for path, field in sent.items() if not field.required and field.default is not UNSET}
    if is_short(datasource, live):
        left_out |= {f"$.{name}" for name in DEFAULTS}
        yield from _other_defaults(datasource, live)
    former = [column for column in former_columns(datasource) if column.name in live]
    yield from compare(datasource, [*columns_of(datasource), *former], live, sent, left_out)


def _other_defaults(datasource: str, live: Mapping[str, LiveColumn]) -> Iterator[Mismatch]:
    """Columns whose defaults, if they can be seen, differ from what short rows leave out."""
    for column in columns_of(datasource):
        usual = DEFAULTS.get(column.path.removeprefix("$."))
        default = live[column.name].default if column.name in live else None
        if usual is not None and default is not None and f"'{usual}'" not in default:
            said = f"has the default {default}, and birdfeed leaves '{usual}' out: rows would have another value"
            yield Mismatch(datasource, column.name, "other_default", said)


def _unreadable(tinybird: Tinybird, datasource: str, error: QueryError) -> Mismatch:
    """Why a data source can't be read; raises `error` if the cause isn't this data source."""
    if error.status in (400, 404):
        said = "there is no such data source: `birdfeed tinybird init` writes its datafile, `tb deploy` creates it"
        return Mismatch(datasource, "", "no_table", said)
    if error.status == 403 and _status_of(tinybird, datasource) != 403:
        said = "TINYBIRD_READ_TOKEN has no READ scope on it"
        return Mismatch(datasource, "", "no_scope", said)
    raise error


def _status_of(tinybird: Tinybird, datasource: str) -> int:
    """The HTTP status that the token gets for a query that needs no data source."""
    try:
        tinybird.query("SELECT 1")
    except QueryError as error:
        return error.status
    return 200


def _with_paths(tinybird: Tinybird, datasource: str, types: Mapping[str, str]) -> dict[str, LiveColumn]:
    """The columns, with their paths if the token may see them; the SQL API doesn't return those."""
    try:
        told: Mapping[str, Mapping[str, Any]] = tinybird.describe(datasource)
    except TinybirdError:
        told = {}
    live = {}
    for name, type_ in types.items():
        about = told.get(name, {})
        default = about.get("default_value")
        required = bool(about) and not default and not about.get("nullable")
        live[name] = LiveColumn(type_, about.get("jsonpath"), required, str(default) if default else None)
    return live


def may_append(tinybird: Tinybird, datasource: str) -> bool | None:
    """Whether a data source accepts the append token; None if that isn't known. Nothing is written."""
    status = tinybird.append(datasource, tinybird.encode([_BROKEN])).status
    return False if status in REFUSED else True if status in (200, 400, 413, 422) else None


def check_append(tinybird: Tinybird) -> list[Mismatch]:
    """The data sources that the append token can't write to; asked with an invalid line, so nothing is written.

    Raises:
        QueryError: Tinybird doesn't answer, or can't answer now.
    """
    found = []
    for datasource in datasources():
        answer = tinybird.append(datasource, tinybird.encode([_BROKEN]))
        if answer.status in (401, 403):
            said = f"TINYBIRD_TOKEN can't APPEND to it ({answer.detail or answer.status})"
            found.append(Mismatch(datasource, "", "no_scope", said))
        elif answer.status == 404:
            said = "Tinybird knows no such data source to append to: wrong region, or not created yet"
            found.append(Mismatch(datasource, "", "no_table", said))
        elif answer.status in (0, 408, 429) or answer.status >= 500:
            raise QueryError(answer.status, answer.detail)
    return found
