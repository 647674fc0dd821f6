"""A Tinybird in memory, for the writer's tests: keeps rows, and answers as the test says."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
from birdfeed_worker.errors import QueryError
from birdfeed_worker.tinybird.client import Tinybird
from birdfeed_worker.tinybird.decide import Answer

Rule = Callable[[list[dict[str, Any]]], Answer | None]


def taken(rows: Sequence[Any]) -> Answer:
    """The answer if all rows are written."""
    return Answer(status=200, successful=len(rows), quarantined=0)


class FakeStore(Tinybird):
    """Rows by data source. `rules` are called in order: the first that returns an Answer decides, and nothing is
    written; a rule may write by itself. `refuse_queries` makes the SQL API answer an error.
    """

    def __init__(self, *, can_read: bool = True) -> None:
        self.rows: dict[str, list[dict[str, Any]]] = {}
        self.quarantine: dict[str, dict[str, str]] = {}
        self.rules: list[Rule] = []
        self.requests: list[list[str]] = []
        self.bodies: list[bytes] = []
        self.queries: list[str] = []
        self.refuse_queries = False
        self.readable = can_read

    @property
    def can_read(self) -> bool:
        return self.readable

    def columns(self, datasource: str, *, again: bool = False) -> dict[str, str]:
        return {"event_id": "String", "occurred_at": "DateTime64(3)"}

    def known_columns(self, datasource: str) -> None:
        return None

    def forget_columns(self, datasource: str) -> None:
        """Nothing is remembered."""

    def encode(self, rows: Iterable[bytes]) -> bytes:
        return b"\n".join(rows)

    def append(self, datasource: str, body: bytes) -> Answer:
        rows = [orjson.loads(line) for line in body.split(b"\n")]
        self.bodies.append(body)
        self.requests.append([row["event_id"] for row in rows])
        for rule in self.rules:
            answer = rule(rows)
            if answer is not None:
                return answer
        self.keep(datasource, rows)
        return taken(rows)

    def keep(self, datasource: str, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows."""
        self.rows.setdefault(datasource, []).extend(rows)

    def ids(self, datasource: str = "llm_events") -> list[str]:
        """Ids of the written rows, in order, duplicates and all."""
        return [row["event_id"] for row in self.rows.get(datasource, ())]

    def query(self, sql: str) -> list[dict[str, Any]]:
        self.queries.append(sql)
        if self.refuse_queries:
            raise QueryError(500, "refused by the test")
        datasource = sql.split(" FROM ")[1].split()[0]
        if datasource.endswith("_quarantine"):
            held = self.quarantine.get(datasource.removesuffix("_quarantine"), {})
            return [
                {"event_id": one, "columns": "cost", "reasons": why} for one, why in held.items() if one[-12:] in sql
            ]
        return [{"event_id": one} for one in dict.fromkeys(self.ids(datasource)) if one[-12:] in sql]
