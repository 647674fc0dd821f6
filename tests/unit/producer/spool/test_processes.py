"""Several processes on one spool, each with several connections: what one writes all read, whichever start and exit."""

import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import orjson
from birdfeed.encoding.batch import lines_of
from birdfeed.spool.location import spool_path
from birdfeed.spool.store import Spool

from tests.support.producer.apps.spool_user import LOOK
from tests.support.producer.fakes import options

#: Writes events, and takes and records events, with two connections that are reopened now and then.
WORK = """
import sys
from pathlib import Path
from birdfeed.encoding.batch import lines_of
from birdfeed.spool.store import Spool
path, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
writer, drain = (Spool(path, max_bytes=10**8, busy_seconds=60) for _ in range(2))
for number in range(rounds):
    writer.add_event("text_generation", b'{"event":"%s-%d"}' % (name.encode(), number), 0)
    if number % 5 == 0:
        batches, _ = drain.collect(batch_events=100, batch_bytes=10**6, compression=1)
        for batch in batches:
            for line in lines_of(batch):
                print(line.decode())
        drain.settle(batches)
    if number % 7 == 0:
        drain.close()
    if number % 11 == 0:
        writer.close()
drain.close()
writer.close()
"""


def test_a_process_that_starts_and_exits_keeps_the_others_log(tmp_path: Path) -> None:
    """The last connection to close deletes SQLite's log: no process may close as the last one while others write."""
    path = spool_path(options(spool_dir=tmp_path))
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(Spool(path, max_bytes=10**6))) for _ in range(2))
        for expected in range(1, 4):
            first.add_event("text_generation", b"{}", 0)
            assert second.totals().events == expected
            seen = subprocess.run([sys.executable, "-c", LOOK, path], capture_output=True, text=True, check=True)
            assert int(seen.stdout) == expected


def test_each_event_is_taken_once_by_processes_that_start_and_exit(tmp_path: Path) -> None:
    """Four processes, 50 events each: every event is found once, by one of them or at the end."""
    path = spool_path(options(spool_dir=tmp_path))
    programs = [
        subprocess.Popen([sys.executable, "-c", WORK, path, name, "50"], stdout=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    taken = [line for program in programs for line in program.communicate(timeout=120)[0].splitlines()]
    assert [program.returncode for program in programs] == [0, 0, 0, 0]
    with closing(Spool(path, max_bytes=10**6)) as spool:
        rest, _ = spool.collect(batch_events=1_000, batch_bytes=10**6, compression=1)
    taken += [line.decode() for batch in rest for line in lines_of(batch)]

    found = Counter(orjson.loads(line)["event"] for line in taken)
    assert found == {f"{name}-{number}": 1 for name in "abcd" for number in range(50)}
