"""docs/explanation/comparison.md, and the parts of bench.comparison that make it."""

import httpx
import pytest

from bench.comparison.peers import PEERS
from bench.comparison.sink import Sink, serving
from bench.comparison.tables import SCENARIOS, Result, tables, with_tables
from tests.support.repository import DOCS

PAGE = (DOCS / "explanation" / "comparison.md").read_text()


def result(**other: float) -> Result:
    """The result of a scenario without losses."""
    numbers = {"tracked": 100, "stored": 100, "twice": 0, "kept": 0, "requests": 1, "median": 2.5, "p99": 1500}
    return Result(**{**numbers, "longest": 2e6, **other})  # type: ignore[arg-type]


def test_the_page_has_every_peer() -> None:
    """In both tables."""
    assert [name for name in PEERS if PAGE.count(f"\n| {name} | ") != 2] == []


def test_the_tables_show_what_was_measured() -> None:
    """Lost and waiting events, duplicate rows, and times in a suitable unit."""
    seen = dict.fromkeys(SCENARIOS, result())
    seen |= {"kill": result(stored=90), "bad row": result(stored=99, kept=1), "no answer": result(twice=7)}
    made = tables({"birdfeed": seen}, "a machine")

    assert "| birdfeed | 10 | 0 | 0, 7 | 0 (1 waits) | 0; tracked 100 in 120 s |" in made
    assert "| birdfeed | 2.5 µs | 1.5 ms | 2.0 s | 1 |" in made
    assert "plain rq" not in made


def test_the_tables_are_put_between_their_markers() -> None:
    """And nowhere else; a page without the markers is an error."""
    assert with_tables("a\n<!-- measured -->\nold\n<!-- end -->\nb", "new") == (
        "a\n<!-- measured -->\n\nnew\n<!-- end -->\nb"
    )
    with pytest.raises(ValueError, match="no place"):
        with_tables("a", "new")


def test_the_sink_counts_each_event_once() -> None:
    """Duplicate rows are counted separately; a request with a bad row is refused completely."""
    sink = Sink(bad=True)
    with serving(sink) as url, httpx.Client(trust_env=False) as client:
        statuses = [
            client.post(f"{url}/v0/events", content=body).status_code
            for body in ('{"request_id": "ev000001"}', '"ev000001" "ev000002"', '"ev000003" "bad-row"')
        ]

    assert statuses == [200, 200, 400]
    assert sorted(sink.rows) == [b"ev000001", b"ev000002"]
    assert sink.twice == 1


def test_the_sink_fails_on_demand() -> None:
    """While away it accepts nothing; without an answer it has the rows."""
    away, silent = Sink(away=60), Sink(lost=60)
    with serving(away) as url, httpx.Client(trust_env=False) as client:
        client.post(f"{url}/begin")
        assert client.post(f"{url}/v0/events", content=b"ev000001").status_code == 503
    with serving(silent) as url, httpx.Client(trust_env=False) as client:
        client.post(f"{url}/begin")
        with pytest.raises(httpx.TransportError):
            client.post(f"{url}/v0/events", content=b"ev000001")

    assert (len(away.rows), len(silent.rows)) == (0, 1)
