"""Traffic for the chaos tests: `python traffic.py FILE RATE PREFIX` tracks events until SIGTERM, then sees them off.

Every request_id is written to FILE before track_event is called, so that the file is what was accepted.
"""

import signal
import sys
import time

import birdfeed


def main() -> None:
    """Track `rate` events a second; at SIGTERM flush, drain the spool, close."""
    path, rate, prefix = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    stopping = []
    signal.signal(signal.SIGTERM, lambda signum, frame: stopping.append(signum))
    birdfeed.start()
    number = 0
    started = time.monotonic()
    with open(path, "a", buffering=1) as accepted:
        while not stopping:
            while number < (time.monotonic() - started) * rate:
                request_id = f"{prefix}-{number}"
                accepted.write(request_id + "\n")
                kind = "text_generation" if number % 3 else "image_generation"
                birdfeed.track_event(kind, {"model": "openai" if number % 3 else "flux", "request_id": request_id})
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
