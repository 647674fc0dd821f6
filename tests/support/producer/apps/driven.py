"""A program that does what it is told through a pipe, a word a line, while a thread of its own tracks all the time.

    track N        N events, in the main thread
    flush          says True or False, whether all that was tracked before is safe
    close          the same, by close()
    configure      anew, by the environment
    fork N         a child tracks N events and closes; says its exit code
    kill           the end, without a word
    exit           the end, in order

Events are numbered (request_id); each word is answered by the number of events tracked so far, and what was counted as
dropped. What was tracked by a child is numbered from a million on.
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
    with _lock:  # so that the child doesn't find it held
        pid = os.fork()
    if pid == 0:
        for number in range(count):
            numbered = 1_000_000 * generation + number
            birdfeed.track_event("text_generation", {"model": "m", "request_id": str(numbered)})
        os._exit(0 if birdfeed.close() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def obey() -> None:
    """Do what each line says."""
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
    finally:  # also where birdfeed raises: the program ends, and the test sees it
        stop.set()
        thread.join()
    print(_number, sum(birdfeed.stats().dropped.values()), flush=True)


if __name__ == "__main__":
    main()
