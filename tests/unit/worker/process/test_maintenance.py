"""Maintenance: between deliveries, without delaying them."""

from collections.abc import Callable

import pytest
from birdfeed_worker.clock import Clock
from birdfeed_worker.process.maintenance import RETRY_SECONDS, Maintenance
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError


class Steps:
    """A retention or sampler that does what the test says."""

    def __init__(self, action: Callable[[], None] = lambda: None) -> None:
        self.taken = 0
        self.action = action

    def step(self) -> None:
        self.taken += 1
        self.action()


def fail(error: Exception) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


def test_it_runs_a_step_at_intervals() -> None:
    """However fast the loop runs."""
    at = [0.0]
    retention, sampler = Steps(), Steps()
    maintenance = Maintenance(retention, sampler, Clock(monotonic=lambda: at[0]))  # type: ignore[arg-type]

    for _ in range(100):
        maintenance.step()
        at[0] += 0.01

    assert (retention.taken, sampler.taken) == (2, 2)


@pytest.mark.parametrize("error", [OutOfMemoryError("full"), ValueError("a letter of somebody else's making")])
def test_what_fails_is_skipped_for_a_while(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """With a line in the log; the work continues."""
    at = [0.0]
    retention = Steps(fail(error))
    maintenance = Maintenance(retention, Steps(), Clock(monotonic=lambda: at[0]))  # type: ignore[arg-type]

    maintenance.step()
    at[0] += RETRY_SECONDS / 2
    maintenance.step()
    assert retention.taken == 1
    at[0] += RETRY_SECONDS
    maintenance.step()

    assert retention.taken == 2
    assert "maintenance failed" in caplog.text


def test_the_loop_handles_a_redis_that_is_away() -> None:
    """It waits for it."""
    maintenance = Maintenance(Steps(fail(RedisConnectionError("gone"))), Steps(), Clock())  # type: ignore[arg-type]

    with pytest.raises(RedisConnectionError):
        maintenance.step()
