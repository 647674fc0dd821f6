"""`birdfeed tinybird init` and `birdfeed tinybird check`."""

from dataclasses import asdict
from pathlib import Path

from birdfeed_schemas.datafiles import datafiles, datasources
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.errors import TinybirdError
from birdfeed_worker.settings import WorkerSettings
from birdfeed_worker.tinybird.schema_check import check_append, check_schemas
from birdfeed_worker.tinybird.schema_compare import Mismatch
from birdfeed_worker.wiring import tinybird_of
from rich.table import Table

from birdfeed_cli.common.console import OK, PARTLY, USAGE, fail, out, print_json
from birdfeed_cli.common.errors import store_code


def run_init(folder: Path, *, force: bool) -> int:
    """Write the Tinybird project; an existing file that differs is kept unless forced."""
    try:
        return _write(folder, force=force)
    except OSError as error:
        return fail(f"can't write {error.filename or folder}: {error.strerror or error}", USAGE)


def _write(folder: Path, *, force: bool) -> int:
    files = datafiles()
    if folder.exists() and not folder.is_dir():
        return fail(f"{folder} is a file; name a folder for the Tinybird project", USAGE)
    there = {path: text for path, text in files.items() if (folder / path).exists()}
    edited = [path for path, text in there.items() if (folder / path).read_bytes() != text.encode()]
    if edited and not force:
        listed = ", ".join(edited)
        return fail(f"{folder} has files that differ from birdfeed's: {listed}; --force overwrites them", USAGE)
    for path, text in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    out.print(f"{counted(len(files), 'datafile')} in {folder}: {len(edited)} overwritten", soft_wrap=True)
    out.print(f"next: cd {folder} && tb deploy, then copy the tokens it made:", soft_wrap=True)
    out.print("  birdfeed_append → TINYBIRD_TOKEN, birdfeed_verify → TINYBIRD_READ_TOKEN, birdfeed_read → dashboards")
    return OK


def run_check(*, as_json: bool) -> int:
    """Compare the live data sources with what workers send. Exit code 1 if there is a mismatch."""
    settings = WorkerSettings.load()
    with tinybird_of(settings) as store:
        if not store.can_read:
            return fail("can't check: TINYBIRD_READ_TOKEN is not set; set it to a token with READ scope", USAGE)
        try:
            found = [*check_schemas(store), *check_append(store)]
        except TinybirdError as error:
            return fail(f"can't check {settings.host}: {error}", store_code(error))
    if as_json:
        print_json({"datasources": list(datasources()), "problems": list(map(asdict, found))})
    elif found:
        out.print(_table(found))
    else:
        out.print(
            f"{', '.join(datasources())}: every column fits what the worker sends, and the tokens may write and read"
        )
    return PARTLY if found else OK


def _table(found: list[Mismatch]) -> Table:
    table = Table(title=counted(len(found), "mismatch", "mismatches"), title_justify="left")
    table.add_column("data source")
    table.add_column("column")
    table.add_column("problem")
    table.add_column("consequence", overflow="fold")
    for mismatch in found:
        table.add_row(*asdict(mismatch).values())
    return table
