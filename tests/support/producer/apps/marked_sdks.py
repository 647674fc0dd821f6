"""A program that calls each SDK through its integration, with markers wherever one can stand.

Its environment says where the events go and what the markers are; it prints what a program's log would show.
"""

import logging
import os

import birdfeed

from tests.support.producer.marked_sdks import CALLS, Marks


def main() -> None:
    """Every library once."""
    marks = Marks(**{name: os.environ[f"MARK_{name.upper()}"] for name in Marks.__dataclass_fields__})
    for calls in CALLS.values():
        calls(marks, lambda: birdfeed.stats().tracked)


if __name__ == "__main__":
    # What the SDKs log of their own requests is theirs.
    logging.getLogger("birdfeed").setLevel(logging.DEBUG)
    logging.getLogger("birdfeed").addHandler(logging.StreamHandler())
    main()
    birdfeed.close()
