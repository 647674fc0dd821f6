"""The program that tracks events with one peer, in that peer's environment.

    python -m bench.comparison.program PEER URL EVENTS GAP KILL BAD

It tracks EVENTS events, one every GAP seconds (0: without pauses); the event numbered BAD (-1: none) has a value that
the sink refuses. With KILL 1 it ends by SIGKILL, otherwise as the peer's documentation says. It prints its results as
JSON.
"""

import asyncio
import json
import os
import signal
import statistics
import sys
import time
import urllib.request
from typing import Any, Final

from bench.comparison.peers import PEERS

#: Seconds that tracking may take; a peer that makes the handler wait for each answer needs longer for 100,000.
PATIENCE: Final = 120.0


def event(number: int, bad: int) -> dict[str, Any]:
    """What a handler tracks for one generation."""
    return {
        "model": "gpt-4o-mini",
        "request_id": f"ev{number:06}",
        "user": "bad-row" if number == bad else "ada",
        "environment": "production",
        "duration": 812.5,
        "status": "success",
    }


async def main(name: str, url: str, events: int, pace: float, kill: bool, bad: int) -> None:
    """Track, and end."""
    peer = PEERS[name](url)
    with urllib.request.urlopen(urllib.request.Request(f"{url}/begin", method="POST"), timeout=5) as answer:
        answer.read()
    took: list[float] = []
    began = time.perf_counter()
    for number in range(events):
        due = began + number * pace
        # Even if it is late, the program must let the other tasks of its event loop run.
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        one = event(number, bad)
        called = time.perf_counter()
        await peer.track(one)
        took.append(time.perf_counter() - called)
        if time.perf_counter() - began > PATIENCE:
            break
    seen = {"tracked": len(took), "seconds": time.perf_counter() - began}
    if took:
        ordered = sorted(took)
        seen |= {"median": statistics.median(took) * 1e6, "p99": ordered[int(len(took) * 0.99)] * 1e6}
        seen |= {"longest": ordered[-1] * 1e6}
    print(json.dumps(seen), flush=True)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    await peer.finish()


if __name__ == "__main__":
    peer_name, sink, count, seconds, killed, refused = sys.argv[1:]
    asyncio.run(main(peer_name, sink, int(count), float(seconds), killed == "1", int(refused)))
