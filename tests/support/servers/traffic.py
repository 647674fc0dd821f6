"""Traffic for tests of whole systems: `python traffic.py FILE RATE PREFIX` tracks events until SIGTERM, then sends the
rest. `Traffic` runs it.

Every request_id is written to FILE, with the time, before track_event is called: the file has the accepted events. When
Redis acknowledges a batch, its request_ids are written to FILE.acknowledged with the time: an event that waited in the
spool is in Redis long after it was tracked.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import birdfeed
from birdfeed.encoding.batch import PackedBatch, lines_of
from birdfeed.transport.enqueuer import Answer, Enqueuer

from tests.support.servers.system import System

#: The model of a few events, for stores that refuse it.
ODD_MODEL = "odd-one"


def is_odd(request_id: str) -> bool:
    """Whether it is an event with that model: every fiftieth."""
    return int(request_id.rpartition("-")[2]) % 50 == 7


class Traffic:
    """A producer process that tracks some events a second, with its own spool.

    Args:
        system: The system to which it sends.
        prefix: Prefix of its request_ids.
        rate: Events a second.
    """

    def __init__(self, system: System, prefix: str = "p", rate: int = 150) -> None:
        self._file = system.folder / f"accepted-{prefix}.txt"
        self._file.touch()
        with (system.folder / f"producer-{prefix}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self._file, str(rate), prefix],
                env={**system.environment, "BIRDFEED_SPOOL_DIR": str(system.folder / f"spool-{prefix}")},
                stdout=log,
            )

    def accepted(self) -> dict[str, float]:
        """The request_ids so far, in order, and when (epoch s) they were tracked."""
        return _times(self._file)

    def acknowledged(self) -> dict[str, float]:
        """When (epoch s) Redis last said that it has an event, by request_id."""
        return _times(_acknowledged(self._file))

    def stop(self) -> None:
        """Tell it to send the rest and exit."""
        self._process.terminate()

    def ended(self) -> dict[str, float]:
        """Wait for its exit; returns all events that it tracked."""
        code = self._process.wait(180)
        assert code == 0, f"the producer ended with {code}"
        return self.accepted()

    def kill(self) -> None:
        """Kill it after a failed test."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _acknowledged(path: Path) -> Path:
    return path.with_suffix(".acknowledged")


def _times(path: Path) -> dict[str, float]:
    return {request_id: float(at) for request_id, at in (line.split() for line in path.read_text().splitlines())}


def _note_what_redis_has(notes: TextIO) -> None:
    enqueue = Enqueuer.enqueue

    def noted(self: Enqueuer, batches: Sequence[PackedBatch]) -> Answer:
        answer = enqueue(self, batches)
        for batch, outcome in zip(batches, answer.outcomes, strict=True):
            if outcome.delivered:
                for line in lines_of(batch):
                    notes.write(f"{json.loads(line)['data']['request_id']} {time.time()}\n")
        return answer

    setattr(Enqueuer, "enqueue", noted)  # noqa: B010 -- mypy takes no assignment to a method


def main() -> None:
    """Track `rate` events a second; at SIGTERM flush, drain the spool, close."""
    path, rate, prefix = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda signum, frame: stopping.append(signum))
    birdfeed.start()
    number = 0
    started = time.monotonic()
    with path.open("a", buffering=1) as accepted, _acknowledged(path).open("a", buffering=1) as acknowledged:
        _note_what_redis_has(acknowledged)
        while not stopping:
            while number < (time.monotonic() - started) * rate:
                request_id = f"{prefix}-{number}"
                accepted.write(f"{request_id} {time.time()}\n")
                kind, model = ("text_generation", "openai") if number % 3 else ("image_generation", "flux")
                data = {"model": ODD_MODEL if is_odd(request_id) else model, "request_id": request_id}
                birdfeed.track_event(birdfeed.EventType(kind), data)
                number += 1
            time.sleep(0.01)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            birdfeed.flush(5)
            stats = birdfeed.stats()
            if stats.buffered == 0 and stats.spooled <= stats.drained:
                break
            time.sleep(0.1)
        birdfeed.close(10)
        print(birdfeed.stats(), flush=True)


if __name__ == "__main__":
    main()
