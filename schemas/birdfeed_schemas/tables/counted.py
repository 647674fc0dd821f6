"""Counts in sentences: "1 event", "2 events"."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """A count and what is counted: "1 event", "2,000 events".

    Args:
        one: What follows the number 1; it may go on with its verb: "event is back".
        many: What follows every other number: "events are back"; by default `one` and an s.
    """
    return f"{number:,} {one if number == 1 else f'{one}s' if many is None else many}"
