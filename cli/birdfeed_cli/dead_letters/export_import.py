"""`birdfeed dead export` and `dead import`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from birdfeed_schemas.safety.untrusted import json_text
from birdfeed_schemas.tables.counted import counted
from birdfeed_worker.dead_letters.audit import note
from birdfeed_worker.operations.replay import new_replay_id
from birdfeed_worker.operations.transfer import Exported, Import, export

from birdfeed_cli.common.console import OK, PARTLY, err, out, print_json, warn
from birdfeed_cli.common.errors import WrongUse
from birdfeed_cli.common.files import file_errors, open_input
from birdfeed_cli.common.redis_access import open_redis
from birdfeed_cli.dead_letters.filters import Filters, choice_json, stoppable

#: Lines reported one by one; after that they are only counted.
TOLD: Final = 20


def run_export(filters: Filters, file: str, limit: int | None, *, force: bool) -> int:
    """Write the selected events. Exit code 1 if some can't be read; an existing file is kept unless forced."""
    connection, keys = open_redis()
    done, choice = Exported(), filters.choice(connection, keys)
    with file_errors(f"can't write {file}"):
        try:
            with _writer(file, force=force) as stream:
                for line in islice(export(connection, keys, choice, done), limit):
                    stream.write(json_text(line.decode()).encode())
        except BrokenPipeError:
            # The reader closed the pipe; redirect stdout, so that Python's flush at exit doesn't fail.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK
    note(connection, keys, "export", choice=choice_json(choice), events=done.events, unreadable=done.unreadable)
    err.print(f"{counted(done.events, 'event')} exported; exported events stay dead until imported, replayed or purged")
    if done.unreadable:
        warn(f"{counted(done.unreadable, 'event')} left out, because the dead letter can't be read")
    return PARTLY if done.unreadable else OK


def run_import(file: str, *, dry_run: bool, as_json: bool) -> int:
    """Put edited events back. Exit code 1 if some lines were refused or are no longer dead."""
    connection, keys = open_redis()
    told = 0

    def tell(number: int, what: str) -> None:
        nonlocal told
        told += 1
        if told <= TOLD:
            warn(f"line {number}: {what}")

    replay_id = new_replay_id()
    with stoppable() as clock, open_input(file) as stream:
        work = Import(connection, keys, replay_id, tell=tell, dry_run=dry_run, stop=clock.stop.is_set)
        result = work.run(stream)
        stopped = clock.stop.is_set()
    counts = {"events": result.events, "refused": result.refused.total(), "not_dead": result.not_dead}
    if not dry_run:
        note(connection, keys, "import", replay=replay_id, **counts, stopped=stopped)
    if as_json:
        print_json({"replay": replay_id, "dry_run": dry_run, "stopped": stopped, **counts})
    else:
        what = "would go back" if dry_run else f"{'is' if result.events == 1 else 'are'} back in the queue"
        out.print(f"{counted(result.events, 'event')} {what}")
        if result.refused:
            one, many = "line was refused; its event stays dead", "lines were refused; their events stay dead"
            out.print(counted(result.refused.total(), one, many))
        if result.not_dead:
            out.print(counted(result.not_dead, "event is no longer dead", "events are no longer dead"))
        if stopped:
            out.print("stopped; import the same file again to continue")
    return PARTLY if result.refused or result.not_dead or stopped else OK


@contextmanager
def _writer(file: str, *, force: bool) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    # Dead events contain what handlers sent: only this user may read the file.
    path = Path(file)
    over = force or (path.exists() and not path.is_file())  # a pipe or /dev/null has nothing to overwrite
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if over else os.O_EXCL), 0o600)
    except FileExistsError:
        raise WrongUse(f"{file} exists; choose another name, or --force to overwrite it") from None
    with os.fdopen(descriptor, "wb") as stream:
        yield stream
