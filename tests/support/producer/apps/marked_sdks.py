"""A program that calls each SDK through its integration, with markers wherever one can be.

Its environment variables say where the events go and what the markers are; it prints what a program's log would have.
"""

import logging
import os

import birdfeed

from tests.support.producer.marked_sdks import CALLS, Marks


def main() -> None:
    """Call every library once."""
    marks = Marks(**{name: os.environ[f"MARK_{name.upper()}"] for name in Marks.__dataclass_fields__})
    for calls in CALLS.values():
        calls(marks, lambda: birdfeed.stats().tracked)


if __name__ == "__main__":
    # What the SDKs log about their own requests is not birdfeed's.
    logging.getLogger("birdfeed").setLevel(logging.DEBUG)
    logging.getLogger("birdfeed").addHandler(logging.StreamHandler())
    main()
    birdfeed.close()
