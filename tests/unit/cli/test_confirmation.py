"""Commands that can't be undone ask on a terminal; declining changes nothing and exits with 1."""

import os
import pty
import subprocess
from pathlib import Path

import pytest
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.query import dead_letters_of
from redis import Redis

from tests.support.commands import BIRDFEED, clean_environment
from tests.support.worker.dead import accept, bury, events


def answered(answer: str, *command: str, url: str, folder: Path) -> tuple[int, str]:
    """The exit code of a command on a terminal at which this is typed as the answer, and what the terminal showed."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [*BIRDFEED, *command],
        env={**clean_environment(), "BIRDFEED_REDIS_URL": url, "TERM": "xterm"},
        cwd=folder,
        stdin=inner,
        stdout=inner,
        stderr=inner,
    )
    os.close(inner)
    shown = b""
    try:
        while True:
            try:
                part = os.read(outer, 65_536)
            except OSError:  # on Linux: the other side is closed
                break
            if not part:
                break
            asked = b"[y/n]" not in shown
            shown += part
            if asked and b"[y/n]" in shown:
                os.write(outer, f"{answer}\n".encode())
        return process.wait(60), " ".join(shown.decode().split())
    finally:
        process.kill()
        process.wait()
        os.close(outer)


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 1), ("", 1, 1), ("y", 0, 0)])
def test_a_purge(redis: Redis, keys: Keys, valkey_url: str, tmp_path: Path, answer: str, code: int, left: int) -> None:
    """The question says how many and which; only yes deletes them."""
    bury(redis, keys, events(3))

    ended, shown = answered(answer, "dead", "purge", "--reason", "invalid", url=valkey_url, folder=tmp_path)

    assert "Delete 3 dead events permanently (reason invalid)?" in shown
    assert (ended, len(list(dead_letters_of(redis, keys)))) == (code, left)
    assert ("declined; nothing was changed" in shown) == (answer != "y")


@pytest.mark.parametrize(("answer", "code", "purged"), [("n", 1, 0), ("y", 0, 2)])
def test_a_write_off(
    redis: Redis, keys: Keys, valkey_url: str, tmp_path: Path, answer: str, code: int, purged: int
) -> None:
    """The ledger is shown before the question."""
    lost = accept(redis, keys, events(2))
    redis.delete(keys.job(lost))

    ended, shown = answered(answer, "ledger", "--write-off", url=valkey_url, folder=tmp_path)

    assert "does not balance: 2 text_generation events are missing" in shown
    assert "Count 2 missing events as purged, permanently?" in shown
    assert ended == code
    assert int(redis.hget(keys.ledger, "purged:text_generation") or 0) == purged
