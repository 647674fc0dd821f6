"""The errors that a type checker finds in a handler before it runs.

`make check` runs mypy --strict over this file, with warnings about comments that ignore nothing: a mistake below that
mypy no longer finds, or a right call that it refuses, fails there. The tests run the same calls.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import birdfeed
import pytest
from birdfeed import ConfigurationError, EventType, TextGenerationFields, track, track_event
from birdfeed.testing import capture


def test_correct_calls_are_accepted() -> None:
    """Each form of call, with the values that handlers have."""
    fields: TextGenerationFields = {"model": "m", "usage": {"prompt_tokens": 1}}
    name = "audio_generation"
    with capture(queue="staging", flush_interval=1) as events:
        birdfeed.configure(queue="staging", spool_dir="/tmp", durability="buffer")
        track_event("text_generation", fields)
        track_event("text_generation", {"model": "m", "userId": 5, "error": ValueError("x"), "start_time": 1.5})
        track_event("image_generation", {"model": "m", "video_seconds": Decimal(3), "end_time": datetime.now(UTC)})
        track_event(EventType(name), {"model": "m", "voice": "alloy"})
        with track("text_generation", model="m", user=None, stream=True) as event:
            event.usage = {"prompt_tokens": 1}

        @track("image_generation", model="m", image_size="1024x1024")
        def paint(prompt: str) -> str:
            return prompt

        assert paint("a bird").upper() == "A BIRD"

    assert len(events) == 6


def misspelt_field() -> None:
    track_event("text_generation", {"modell": "m"})  # type: ignore[call-overload]


def misspelt_field_of_track() -> None:
    with track("text_generation", model="m", usages={}):  # type: ignore[call-overload]
        pass


def field_of_another_type() -> None:
    track_event("text_generation", {"model": "m", "image_size": "1x1"})  # type: ignore[call-overload]


def misspelt_type() -> None:
    track_event("text_generaton", {"model": "m"})  # type: ignore[call-overload]


def misspelt_type_of_track() -> None:
    with track("text_generaton", model="m"):  # type: ignore[call-overload]
        pass


def wrong_status() -> None:
    track_event("text_generation", {"model": "m", "status": "ok"})  # type: ignore[call-overload]


def wrong_model() -> None:
    track_event("text_generation", {"model": 5})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    "mistake",
    [
        misspelt_field,
        misspelt_field_of_track,
        field_of_another_type,
        misspelt_type,
        misspelt_type_of_track,
        wrong_status,
        wrong_model,
    ],
)
def test_mistakes_fail_no_handler(mistake: Callable[[], None]) -> None:
    """Without a type checker there is still an event."""
    with capture() as events:
        mistake()

    assert len(events) == 1


def test_a_misspelt_setting() -> None:
    """Found by the type checker, and when the program starts."""
    with capture(), pytest.raises(ConfigurationError, match="redis_ulr"):
        birdfeed.configure(redis_ulr="redis://localhost")  # type: ignore[call-arg]
