"""Faults on demand: which are active, and which of them affect a request.

A fault stays active until it is cleared or has affected `times` requests. If several affect one request, their switches
are combined, and the newest wins.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from birdfeed_sandbox.faults.spec import Fault, Side, Switches, read_fault


class FaultBook:
    """The faults that are on."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._left: dict[int, int] = {}
        self._dice: dict[int, random.Random] = {}
        self._serial = 0

    def add(self, given: Mapping[str, Any]) -> int:
        """Switch a fault on; returns its number.

        Raises:
            FaultError: It has a switch that doesn't exist, or a value that makes no sense.
        """
        fault = read_fault(given)
        self._serial += 1
        self._faults[self._serial] = fault
        self._dice[self._serial] = random.Random(fault.seed)
        if fault.times is not None:
            self._left[self._serial] = fault.times
        return self._serial

    def clear(self, fault_id: int | None = None) -> int:
        """Switch off one fault, or all; returns how many were on."""
        ids = list(self._faults) if fault_id is None else [fault_id] if fault_id in self._faults else []
        for each in ids:
            del self._faults[each], self._dice[each]
            self._left.pop(each, None)
        return len(ids)

    def draw(self, side: Side, name: str | None, body: bytes) -> Switches:
        """The switches for a request that has arrived; counts it against `times`."""
        drawn = Switches()
        for number, fault in list(self._faults.items()):
            if not fault.concerns(side, name, body) or self._dice[number].random() >= fault.probability:
                continue
            drawn = drawn.model_copy(update=fault.active())
            if number in self._left:
                self._left[number] -= 1
                if self._left[number] == 0:
                    self.clear(number)
        return drawn

    def report(self) -> list[dict[str, Any]]:
        """The faults that are on, as they were given, with how many requests each has left."""
        return [
            {**fault.model_dump(exclude_unset=True), "id": number, "left": self._left.get(number)}
            for number, fault in self._faults.items()
        ]
