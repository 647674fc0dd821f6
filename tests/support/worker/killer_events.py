"""An event type that crashes a worker like a poison event; installed by tests as a separate package."""

import os
import signal
import textwrap
from pathlib import Path

MODULE = """
import os, signal
from birdfeed_schemas.events import TextGeneration
from birdfeed_schemas.fields import TEXT_GENERATION
from birdfeed_schemas.registry import EventType
from birdfeed_schemas.row_models import LlmEventRow
from birdfeed_schemas.rows import llm_event_row


def build_row(enriched):
    match enriched.event.model:
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "raises":
            raise RuntimeError("a bug in a row builder")
    return llm_event_row(enriched)


KILLER = EventType(
    name="killer", event=TextGeneration, row=LlmEventRow, build_row=build_row, datasource="llm_events",
    fields=TEXT_GENERATION,
)
"""


def install(folder: Path) -> Path:
    """Write the package into a folder for PYTHONPATH; returns it."""
    place = folder / "site"
    info = place / "killer_events-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "killer_events.py").write_text(textwrap.dedent(MODULE))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: killer-events\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[birdfeed.event_types]\nkiller = killer_events:KILLER\n")
    return place


#: The exit status of a segmentation fault.
SEGFAULT = -signal.SIGSEGV
PATH_SEPARATOR = os.pathsep
