"""Tinybird's client, with its requests counted."""

import time
from typing import Any

from birdfeed_worker.monitoring.metrics import REQUEST_BYTES, REQUEST_SECONDS, REQUESTS, Meter
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.decide import Answer


class MeteredTinybird(Tinybird):
    """Tinybird that counts each append request by status and time. Takes Tinybird's arguments, and the meter."""

    def __init__(self, *args: Any, meter: Meter, **named: Any) -> None:
        super().__init__(*args, **named)
        self._meter = meter

    def append(self, datasource: str, body: bytes) -> Answer:
        """As Tinybird.append."""
        began = time.perf_counter()
        answer = super().append(datasource, body)
        self._meter.observe(REQUEST_SECONDS, datasource, seconds=time.perf_counter() - began)
        self._meter.add(REQUESTS, datasource, str(answer.status))
        self._meter.add(REQUEST_BYTES, datasource, amount=len(body))
        return answer
