"""One of the processes that tests/unit/producer/spool/test_storm.py starts: it uses a spool, and writes down how.

    python spool_user.py DIRECTORY SEED ROUNDS PLAN

What it appends to its journal, a line each, survives its death: `try NAMES`, then `kept NAMES` or `refused NAMES`;
`dropped N`. What it sends it appends to the file `sent`, a line for each batch: the batch's id and its events.
"""

import ctypes
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Final

import orjson
from birdfeed.encoding.batch import PackedBatch, lines_of, pack
from birdfeed.errors import SpoolError
from birdfeed.spool.store import LEASE_SECONDS, Spool

TYPE: Final = "text_generation"
#: Seconds of a lease where leases are to end: the processes' clock runs that much faster.
SHORT_LEASE: Final = 0.3
#: Processes that one storm makes by forks.
FORKS: Final = 12
#: Bytes of the bound, where there is one.
BOUND: Final = 6_000
#: Opens the spool named by its argument, prints how many events are in it, and closes it, as at a process's exit.
LOOK: Final = """
import sys
from pathlib import Path
from birdfeed.spool.store import Spool
spool = Spool(Path(sys.argv[1]), max_bytes=10**6, busy_seconds=60)
print(spool.totals().events)
spool.close()
"""


def clock(plan: str) -> Callable[[], float]:
    """The clock of all processes of a storm."""
    speed = 1.0 if plan.startswith("bound") else LEASE_SECONDS / SHORT_LEASE
    return lambda: time.monotonic() * speed


def fork_of_c() -> int:
    """Fork as a server written in C does, such as uWSGI: without the hooks that run before a fork in Python."""
    libc = ctypes.PyDLL(None)
    child: int = libc.fork()
    if not child and sys.version_info < (3, 13):  # later ones end the process: the import lock was not acquired
        libc.PyOS_AfterFork_Child()
    return child


def append(path: Path, line: str) -> None:
    """Append a line in one write, so that no line is incomplete if a process is killed."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


class User:
    """One process: what it holds, and the things it does."""

    def __init__(self, directory: Path, seed: str, rounds: int, plan: str) -> None:
        self.directory, self.rounds, self.plan = directory, rounds, plan
        self.bounded = plan.startswith("bound")
        self.spools = [self.make() for _ in range(2)]
        self.begin(seed)

    def begin(self, seed: str) -> None:
        """Begin as a process of its own, also after a fork."""
        self.seed = seed
        self.random = random.Random(seed)
        self.journal = self.directory / "journals" / seed
        self.made = count()
        self.forked = 0
        self.alone = True
        if self.plan == "kills" and self.random.random() < 0.4:
            # The default action of this signal ends the process at any instruction, as SIGKILL does.
            signal.setitimer(signal.ITIMER_PROF, self.random.uniform(0.01, 0.4))
        signal.signal(signal.SIGALRM, self.interrupted)
        if self.random.random() < 0.5:
            signal.setitimer(signal.ITIMER_REAL, 0.01, self.random.uniform(0.002, 0.02))
        if self.random.random() < 0.4:
            self.alone = False
            threading.Thread(target=self.drain, args=(random.Random(f"{seed} drain"),), daemon=True).start()

    def make(self) -> Spool:
        return Spool(
            self.directory / "spool" / "spool.sqlite3",
            max_bytes=BOUND if self.bounded else 10**8,
            drop_oldest=self.plan == "bound, oldest",
            busy_seconds=60.0,
            clock=clock(self.plan),
        )

    # ---- adding

    def names(self, many: int) -> list[str]:
        """Events that no other call and no other process names."""
        made = next(self.made)
        # With the process, because a signal that arrives during a fork is handled in parent and child.
        return [f"{self.seed}:{os.getpid()}:{made}:{number}" for number in range(many)]

    def add(self, spool: Spool, single: bool, many: int) -> None:
        names = self.names(1 if single else many)
        lines = [orjson.dumps(name) for name in names]
        append(self.journal, f"try {' '.join(names)}")
        try:
            if single:
                dropped = spool.add_event(TYPE, lines[0], 0)[1]
            else:
                dropped = spool.add([pack(TYPE, lines, compression=0)])[1]
        except SpoolError as error:
            append(self.journal, f"refused {' '.join(names)} {error}")
            return
        append(self.journal, f"kept {' '.join(names)}")
        if dropped:
            append(self.journal, f"dropped {sum(dropped.values())}")

    def interrupted(self, number: int, frame: FrameType | None) -> None:
        """A signal arrives, anywhere: its handler tracks an event."""
        self.add(self.spools[0], True, 1)

    # ---- sending

    def drain(self, random: random.Random) -> None:
        """What the flusher's thread does."""
        for _ in range(self.rounds // 4):
            self.take(random)
            time.sleep(0.001)

    def take(self, random: random.Random) -> None:
        spool = self.spools[1]
        with suppress(SpoolError):
            if random.random() < 0.5:
                self.send(spool, spool.collect(batch_events=5, batch_bytes=10**6, compression=0)[0], random)
            else:
                self.send(spool, spool.claim(20)[0], random)

    def send(self, spool: Spool, batches: Sequence[PackedBatch], random: random.Random) -> None:
        """Each batch has a fate of its own."""
        fates = {"taken": 12, "refused": 3, "lost, no answer": 2}
        if not self.bounded:  # else such a batch may be counted as dropped, too
            fates |= {"taken, no answer": 2, "forgotten": 1, "late": 1, "late, refused": 1}
        for batch in batches:
            fate = random.choices(list(fates), list(fates.values()))[0]
            if "late" in fate:
                time.sleep(SHORT_LEASE * 1.5)
            if "taken" in fate or fate == "late":
                append(self.directory / "sent", f"{batch.id} {' '.join(orjson.loads(one) for one in lines_of(batch))}")
            if fate in {"taken", "late"}:
                spool.settle([batch])
            elif fate != "forgotten":
                spool.release([batch], unsure="no answer" in fate)

    # ---- the rest

    def fork(self) -> None:
        """Fork with or without Python's hooks; the parent or the child may exit immediately."""
        if len(os.listdir(self.directory / "journals")) > FORKS:
            return
        self.forked += 1
        seed = f"{self.seed}.{self.forked}"
        if self.alone and self.random.random() < 0.5:
            child = fork_of_c()
        else:
            child = os.fork()
        if not child:
            self.begin(seed)
            if self.random.random() < 0.7:
                self.spools = [self.make() for _ in range(2)]  # as birdfeed does
        elif self.random.random() < 0.3:
            self.end()

    def end(self) -> None:
        if self.random.random() < 0.5:
            for spool in self.spools:
                spool.close()
        os._exit(0)

    def run(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        random = self.random
        done = 0
        actions = {"add": 50, "take": 15, "close": 6, "make": 2, "look": 3, "shrink": 2, "fork": 4}
        if self.plan == "damage":
            actions["close"] = 25  # it is noticed when the file is opened
        while done < self.rounds:
            random, done = self.random, done + 1
            action = random.choices(list(actions), list(actions.values()))[0]
            spool = random.choice(self.spools)
            with suppress(SpoolError):
                if action == "add":
                    self.add(spool, random.random() < 0.7, random.randint(1, 3))
                elif action == "take":
                    self.take(random)
                elif action == "close":
                    spool.close()
                elif action == "make":
                    self.spools[random.randrange(2)] = self.make()
                elif action == "look":
                    spool.batches()
                elif action == "shrink":
                    spool.shrink()
                else:
                    self.fork()
        self.end()


if __name__ == "__main__":
    if sys.argv[4] == "damage":
        logging.disable()  # else what a process logs is a failure
    User(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]).run()
