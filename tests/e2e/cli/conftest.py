"""One system for all tests of the runbook that don't change its settings."""

from collections.abc import Iterator

import pytest
from birdfeed_sandbox.process import Sandbox

from tests.support.producer.apps.run import Server
from tests.support.servers.system import System


@pytest.fixture(scope="module")
def standing(sandbox_process: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker, on a Redis with an append-only file, for all tests here that don't change its settings."""
    folder = tmp_path_factory.mktemp("runbook")
    # The pool looks at the store's columns when it starts, and a test before this module may have replaced them.
    sandbox_process.reset()
    with Server(folder / "valkey") as redis, System(redis.url, sandbox_process, folder) as system:
        system.start_pool(1)
        yield system


@pytest.fixture
def working(standing: System, sandbox: Sandbox) -> Iterator[System]:
    """The shared system, with nothing in the queue, the store or the ledger."""
    standing.log.write_text("")
    yield standing
    sandbox.clear_faults()
    try:
        standing.drained(within=120)
    finally:  # what a failed test leaves must not fail the next one
        workers = {key: standing.redis.dump(key) for key in standing.redis.keys("rq:worker*")}
        standing.redis.flushall()
        for key, value in workers.items():
            if value is not None:
                standing.redis.restore(key, 0, value, replace=True)  # a worker may have renewed it
