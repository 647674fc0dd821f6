"""A status without findings."""

from birdfeed_worker.flow.destinations import Destination
from birdfeed_worker.monitoring.depth import Depth
from birdfeed_worker.monitoring.facts import Status, WorkerState
from birdfeed_worker.monitoring.ledger import Ledger

WORKER = WorkerState(name="w", host="h", pid=1, state="idle", in_flight=0, done=0, silent=1.0)
WELL = Status(
    depth=Depth(0, 0, 0),
    lag=None,
    next_due=None,
    rates=None,
    workers=[WORKER],
    destinations={"llm_events": Destination()},
    tripped={},
    dead={},
    dead_bytes=None,
    costs={},
    ledger=Ledger(accounts={}, anomalies={}),
    now=1_000.0,
)
