"""Any arguments of track_event: nothing is raised, and every event is a row, a dead letter, or counted as dropped."""

import logging
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fuzz import event, outcomes


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_every_event_is_kept_or_counted(draw: Random) -> None:
    """From the handler's call to the worker's row; our own code never fails."""
    assert outcomes(event(draw) for _ in range(5))["dead internal_error"] == 0


def test_many_events_have_every_outcome() -> None:
    """The generator makes rows, dead letters and drops of more than one kind."""
    draw = Random(17)
    found = outcomes(event(draw) for _ in range(1_500))

    assert found["dead internal_error"] == 0
    assert found["row"] > 300
    assert found["dead invalid"] > 50
    assert {"dead unknown_event_type", "dropped bad_call"} <= found.keys()


@pytest.mark.soak
def test_a_hundred_thousand_events() -> None:
    """The same with 100 seeds of 1,000 events."""
    logging.disable(logging.WARNING)
    try:
        total: Counter[str] = Counter()
        for seed in range(100):
            draw = Random(seed)
            total += outcomes(event(draw) for _ in range(1_000))
    finally:
        logging.disable(logging.NOTSET)

    assert total.total() == 100_000
    assert total["dead internal_error"] == 0
