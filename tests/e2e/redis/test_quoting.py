"""A server that knows no command and quotes what it was sent, as Redis does: the password reaches no log or screen."""

import socketserver
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.servers.system import System
from tests.support.wait import eventually

SECRET = "hush-hush"


class Quoting(socketserver.StreamRequestHandler):
    """Reads commands, and answers as Redis answers to one that it doesn't know (or that was renamed)."""

    def handle(self) -> None:
        """Until the client goes."""
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                words.append(self.rfile.read(int(self.rfile.readline()[1:])))
                self.rfile.readline()
            quoted = b" ".join(b"'%s'" % word for word in words[1:])[:128]
            self.server.asked.append(words)  # type: ignore[attr-defined]
            self.wfile.write(b"-ERR unknown command '%s', with args beginning with: %s\r\n" % (words[0], quoted))


@contextmanager
def quoting() -> Iterator[tuple[str, list[list[bytes]]]]:
    """Its URL, with a password; and the commands that it was sent."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Quoting) as server:
        server.daemon_threads = True
        asked: list[list[bytes]] = []
        server.asked = asked  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()
        thread.join()


#: A program that tracks, with everything logged.
TRACKS = """
import logging, birdfeed
logging.basicConfig(level=logging.DEBUG)
birdfeed.track_event("text_generation", {"model": "m"})
birdfeed.flush(5)
birdfeed.close()
"""


def said_by_all(system: System) -> Iterator[str]:
    """What a program that tracks, commands that connect, and a worker that tries again print and log."""
    run = [sys.executable, "-c", TRACKS]
    tracked = subprocess.run(run, env=system.environment, capture_output=True, text=True, check=True).stderr
    assert "they are kept in the spool" in tracked
    yield tracked
    for command in ("status", "doctor", "ledger", "metrics", "dead list", "send -"):
        done = system.run(*command.split(), text="{}")
        assert done.returncode
        yield done.stdout + done.stderr
    system.start_pool(1, wait=False)
    eventually(lambda: "trying again" in system.said() or "waiting for Redis" in system.said(), what="the worker waits")
    yield system.said()


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("redis://:{secret}@{place}/0", marks=pytest.mark.slow),
        "redis://user:{secret}@{place}/0",
        pytest.param("redis://{place}/0?username=user&password={secret}", marks=pytest.mark.slow),
        "redis+sentinel://{place}/service?sentinel_password={secret}",
    ],
)
def test_a_password_is_quoted_nowhere(url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """It was sent to the server."""
    with quoting() as (place, asked), System("redis://127.0.0.1:1/0", sandbox, tmp_path) as system:
        system.environment["BIRDFEED_REDIS_URL"] = url.format(secret=SECRET, place=place)

        said = list(said_by_all(system))

    assert any(SECRET.encode() in words for words in asked)
    assert [text for text in said if SECRET in text] == []


@pytest.mark.parametrize(
    "url",
    [
        "rediss://{secret}:{secret}@127.0.0.1:1/0?username={secret}&password={secret}&ssl_password={secret}",
        "redis+sentinel://{secret}:{secret}@127.0.0.1:1/s?sentinel_username=u&sentinel_password={secret}",
    ],
)
def test_no_part_of_a_url_is_shown_where_nothing_listens(url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    """The reason is. A worker that waited for Redis logged the query, and redis-py's error shows its Sentinels."""
    with System("redis://127.0.0.1:1/0", sandbox, tmp_path) as system:
        system.environment["BIRDFEED_REDIS_URL"] = url.format(secret=SECRET)

        said = list(said_by_all(system))

    assert [text for text in said if SECRET in text] == []
    assert [text for text in said if "Connection refused" not in " ".join(text.split())] == []
