"""A program that runs commands from standard input, one a line, while one of its threads tracks all the time.

    track N        N events, in the main thread
    flush prints True or False: whether all events tracked before are safe
    close          the same, by close()
    configure again, from the environment
    fork N         a child tracks N events and closes; prints its exit code
    kill           the process is killed
    exit           the process exits normally

Events are numbered (request_id); each command is answered with the number of events tracked so far, and the number
counted as dropped. A child's events are numbered from a million.
"""

import os
import sys
import threading
import time

import birdfeed

_number = 0
_lock = threading.Lock()


def track(count: int) -> None:
    global _number
    for _ in range(count):
        with _lock:
            number, _number = _number, _number + 1
        birdfeed.track_event("text_generation", {"model": "m", "request_id": str(number)})


def fork(count: int, generation: int) -> int:
    with _lock:  # so that it isn't locked in the child
        pid = os.fork()
    if pid == 0:
        for number in range(count):
            numbered = 1_000_000 * generation + number
            birdfeed.track_event("text_generation", {"model": "m", "request_id": str(numbered)})
        os._exit(0 if birdfeed.close() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def obey() -> None:
    """Run the command of each line."""
    generation = 0
    for line in sys.stdin:
        word, _, argument = line.strip().partition(" ")
        answer: object = ""
        if word == "track":
            track(int(argument))
        elif word == "flush":
            answer = birdfeed.flush()
        elif word == "close":
            answer = birdfeed.close()
        elif word == "configure":
            birdfeed.configure()
        elif word == "fork":
            generation += 1
            answer = fork(int(argument), generation)
        elif word == "exit":
            break
        print(answer, _number, flush=True)


def main() -> None:
    stop = threading.Event()

    def steadily() -> None:
        while not stop.is_set():
            track(1)
            time.sleep(0.001)

    thread = threading.Thread(target=steadily)
    thread.start()
    try:
        obey()
    finally:  # also if birdfeed raises: the program exits, and the test notices
        stop.set()
        thread.join()
    print(_number, sum(birdfeed.stats().dropped.values()), flush=True)


if __name__ == "__main__":
    main()
