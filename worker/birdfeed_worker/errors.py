"""The errors that birdfeed's workers and commands raise on purpose. Redis's errors are redis-py's own.

Others are beside what raises them: PriceBookError, a ConfigurationError (pricing/book/load.py), RecordError
(pricing/price/record.py), BillError (operations/invoice/bill.py), NotOursError (operations/reprice/row_reader.py) and
CorrectionError (operations/reprice/corrections.py).
"""


class BirdfeedError(Exception):
    """Base class of birdfeed's own errors."""


class ConfigurationError(BirdfeedError):
    """The settings can't work; the message names the setting and what to set it to."""


class SuspendedError(BirdfeedError):
    """No worker may reserve jobs while `rq suspend` is in force."""


class DeadEventError(BirdfeedError):
    """The worker would dead-letter an event: `reason` is the short code, `detail` says what is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class RequestError(BirdfeedError):
    """An HTTP request got no complete answer: `sent` says whether it may have reached the server, `detail` why."""

    def __init__(self, detail: str, sent: bool) -> None:
        super().__init__(detail, sent)
        self.detail = detail
        self.sent = sent

    def __str__(self) -> str:
        return self.detail


class TinybirdError(BirdfeedError):
    """Tinybird did not do what it was asked to do."""


class QueryError(TinybirdError):
    """The SQL API refused a query: `status` is HTTP's (0: no answer), `detail` the server's reason, redacted."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"Tinybird refused the query ({self.status or 'no answer'}): {self.detail}"


class QuotaError(TinybirdError):
    """The SQL API's quota is used up; ask again in `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"Tinybird's read quota is used up; try again in {self.retry_after:g} s"
