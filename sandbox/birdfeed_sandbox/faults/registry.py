"""Faults on demand: which are on, and which of them hit a request.

Faults stay until they are cleared or have hit `times` requests. Where several hit one request, their switches add up,
the newest winning.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from birdfeed_sandbox.faults.spec import NO_FAULT, Fault, Side, Switches, read_fault


class FaultBook:
    """The faults that are on."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._left: dict[int, int] = {}
        self._dice: dict[int, random.Random] = {}
        self._serial = 0

    def add(self, given: Mapping[str, Any]) -> Fault:
        """Switch a fault on.

        Raises:
            FaultError: It has a switch that doesn't exist, or a value that makes no sense.
        """
        fault = read_fault(given, self._serial + 1)
        self._serial = fault.id
        self._faults[fault.id] = fault
        self._dice[fault.id] = random.Random(fault.seed)
        if fault.times is not None:
            self._left[fault.id] = fault.times
        return fault

    def clear(self, fault_id: int | None = None) -> int:
        """Switch off one fault, or all; how many were on."""
        ids = list(self._faults) if fault_id is None else [fault_id] if fault_id in self._faults else []
        for each in ids:
            del self._faults[each], self._dice[each]
            self._left.pop(each, None)
        return len(ids)

    def draw(self, side: Side, name: str | None, body: bytes) -> Switches:
        """The switches for a request that has arrived; counts it against `times`."""
        drawn = NO_FAULT
        for fault in list(self._faults.values()):
            if not fault.concerns(side, name, body) or self._dice[fault.id].random() >= fault.probability:
                continue
            drawn = replace(drawn, **fault.switches.on())
            if fault.id in self._left:
                self._left[fault.id] -= 1
                if self._left[fault.id] == 0:
                    self.clear(fault.id)
        return drawn

    def report(self) -> list[dict[str, Any]]:
        """The faults that are on, as they were given, with how many requests each has left."""
        return [{**fault.given, "id": fault.id, "left": self._left.get(fault.id)} for fault in self._faults.values()]
