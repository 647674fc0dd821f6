"""Hold events in memory between track_event and the flusher, within bounds.

Adding an event takes no lock: `deque.append` is atomic, and if a thread that holds a lock is descheduled, every other
request waits for it. The size is kept as two running sums. A race between threads can lose an addition, so it is an
estimate, which is corrected whenever the flusher finds the buffer empty.
"""

from collections import deque
from typing import Any, Final, Literal, TypeAlias

from birdfeed.runtime.wake import Wake
from birdfeed.stats import Counters

#: (event type, bytes, ...): the buffer uses the first two.
Item: TypeAlias = tuple[Any, ...]

#: When the buffer is filled to this share of a bound, the flusher is woken instead of waiting for its next interval.
_WAKE_AT: Final = 0.5


class Buffer:
    """Events on their way to the flusher."""

    def __init__(
        self,
        *,
        counters: Counters,
        wake: Wake | None = None,
        max_events: int = 100_000,
        max_bytes: int = 64_000_000,
        drop_policy: Literal["newest", "oldest"] = "newest",
    ) -> None:
        """`wake` is set when the buffer fills faster than the flusher's interval allows for."""
        self._counters = counters
        self._wake = wake if wake is not None else Wake()
        self._items: deque[Item] = deque()
        self._added = 0
        self._taken = 0
        #: Whether nothing takes from the buffer any more. A thread that put an event in must then move it elsewhere.
        self.sealed = False
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._drop_oldest = drop_policy == "oldest"
        self._many = max(1, int(max_events * _WAKE_AT))
        self._much = int(max_bytes * _WAKE_AT)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        """Bytes waiting; an estimate."""
        return max(0, self._added - self._taken)

    def put(self, item: Item) -> bool:
        """Add an event; if there is no room, drop one by the policy. Returns whether it was added."""
        size = len(item[1])
        items = self._items
        if (len(items) >= self._many or self._added + size - self._taken > self._much) and not self._make_room(item):
            return False
        self._added += size
        items.append(item)
        return True

    def take(self, max_events: int, max_bytes: int) -> list[Item]:
        """Remove and return up to that many of the oldest events."""
        taken: list[Item] = []
        size = 0
        pop = self._items.popleft
        try:
            while len(taken) < max_events and size < max_bytes:
                item = pop()
                taken.append(item)
                size += len(item[1])
        except IndexError:
            self._taken = self._added  # empty: all that was added is taken
        else:
            self._taken += size
        return taken

    def put_back(self, items: list[Item]) -> None:
        """Put taken events back in front, in their order."""
        self._items.extendleft(reversed(items))
        self._taken -= sum(len(item[1]) for item in items)

    def take_all(self) -> list[Item]:
        """Remove and return everything."""
        taken: list[Item] = []
        while items := self.take(self._max_events, self._max_bytes):
            taken += items
        return taken

    def seal(self) -> list[Item]:
        """Mark the buffer as no longer emptied; remove and return what is still in it.

        An event that was put in before is returned. A thread that puts one in later sees `sealed` afterwards.
        """
        self.sealed = True
        return self.take_all()

    def _make_room(self, item: Item) -> bool:
        """Wake the flusher, for the buffer is half full; drop if a bound is reached. Returns if there is room now."""
        self._wake.set()
        size = len(item[1])
        while len(self._items) >= self._max_events or (self.size + size > self._max_bytes and self._items):
            if not self._drop_oldest:
                self._counters.drop(item[0], "buffer_full")
                return False
            try:
                oldest = self._items.popleft()
            except IndexError:
                break  # the flusher has taken the rest in the meantime
            self._taken += len(oldest[1])
            self._counters.drop(oldest[0], "buffer_full")
        return True
