"""Rows in a sandbox's tables, made by the worker's enrichment and sent by the worker's client."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.registry import registry
from birdfeed_schemas.tables.former import is_short
from birdfeed_schemas.wire.envelope import Header
from birdfeed_worker.model import Item
from birdfeed_worker.pipeline.enrich import Enricher
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.pricing.book.reload import BookSource
from birdfeed_worker.tiers.lookup import NoTiers
from birdfeed_worker.tinybird.client import Tinybird

from tests.support.events import envelope


def client_of(sandbox: Sandbox) -> Tinybird:
    """The worker's client for a sandbox."""
    return Tinybird(sandbox.url, sandbox.append_token, sandbox.read_token)


def post(sandbox: Sandbox, datasource: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Send rows directly, without a worker; returns the store's answer."""
    answer = httpx.post(
        f"{sandbox.url}/v0/events",
        params={"name": datasource, "wait": "true"},
        content=b"\n".join(map(orjson.dumps, rows)),
        headers={"Authorization": f"Bearer {sandbox.append_token}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    counts: dict[str, int] = answer.json()
    return counts


def use(sandbox: Sandbox, folder: Path, book: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """Commands in this process use a sandbox and a book, without the user's .env and without the fallback."""
    monkeypatch.chdir(folder)
    for name, value in {
        "TINYBIRD_HOST": sandbox.url,
        "TINYBIRD_TOKEN": sandbox.append_token,
        "TINYBIRD_READ_TOKEN": sandbox.read_token,
        "BIRDFEED_PRICE_BOOK": str(book),
        "BIRDFEED_PRICE_FALLBACK": "false",
        **settings,
    }.items():
        monkeypatch.setenv(name, value)


def rows_of(
    books: BookSource,
    event_type: str,
    events: Iterable[tuple[datetime, Mapping[str, Any]]],
    enriched_at: datetime,
    *,
    short: bool = False,
) -> list[bytes]:
    """Rows of events (when tracked, data), as the worker makes them."""
    header = Header(batch_id="b", event_type=event_type, count=1)
    items = [
        Item(job_id="j", header=header, source=b"", envelope=envelope(data, event_type, when)) for when, data in events
    ]
    valid = validate(event_type, items)
    assert len(valid) == len(items), [item.outcome for item in items]
    enricher = Enricher(books, NoTiers(), extra_fields=frozenset({"colour"}), keep_traceback=True)
    enricher.enrich(registry()[event_type], valid, enriched_at, short=short)
    return [item.row for item in items]


def store(
    sandbox: Sandbox,
    books: BookSource,
    event_type: str,
    events: Iterable[tuple[datetime, Mapping[str, Any]]],
    enriched_at: datetime | None = None,
) -> None:
    """Store events in the sandbox as a worker would: in the rows that its table accepts."""
    datasource = registry()[event_type].datasource
    with client_of(sandbox) as client:
        short = is_short(datasource, client.columns(datasource))
        rows = rows_of(books, event_type, events, enriched_at or datetime.now(UTC), short=short)
        answer = client.append(datasource, client.encode(rows))
        assert (answer.status, answer.successful, answer.quarantined) == (200, len(rows), 0), answer
