"""`birdfeed report`: its numbers equal those computed in Python, and the page works without internet."""

import csv
import io
import json
import os
import random
import subprocess
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest
from birdfeed_cli.common.money import usd
from birdfeed_cli.report.charts import scale
from birdfeed_cli.report.command import bar, sparkline
from birdfeed_cli.report.html import page, short
from birdfeed_cli.report.query import read_report
from birdfeed_sandbox import Sandbox
from birdfeed_schemas.datafiles import datasources
from birdfeed_worker.tinybird.client import Tinybird

from tests.store import reference
from tests.support import rows as made
from tests.support.commands import birdfeed, clean_environment
from tests.support.existing import existing_datasource
from tests.support.servers.chromium import chromium
from tests.support.stored import post

Rows = Sequence[Mapping[str, Any]]
Run = Callable[..., subprocess.CompletedProcess[str]]
NASTY = "<script>alert(1)</script> & \"co\" 'x'"


@pytest.fixture
def run(store: Sandbox, tmp_path: Path) -> Run:
    """`birdfeed report` with settings for the sandbox; others by name."""

    def command(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **clean_environment(),
            "TINYBIRD_HOST": store.url,
            "TINYBIRD_READ_TOKEN": store.read_token,
            "COLUMNS": "160",
            **changes,
        }
        return birdfeed("report", *arguments, environment=environment, folder=tmp_path, timeout=60)

    return command


def fill(store: Sandbox, seed: int = 1) -> Rows:
    """Events of the last 20 hours, some twice, some repriced; returns every version sent."""
    dice = random.Random(seed)
    now = datetime.now(UTC)
    sent: list[Mapping[str, Any]] = []
    for table, event_type in (("llm_events", "text_generation"), ("image_events", "image_generation")):
        store.sql(f"SYSTEM STOP MERGES {table}")
        rows = made.sample(
            dice, event_type, [now - timedelta(seconds=60 + 1200 * dice.randrange(60)) for _ in range(200)]
        )
        rows[0]["user"] = rows[1]["model"] = NASTY
        later = [made.repriced(dice, row, (now + timedelta(days=1)).isoformat()) for row in rows[:80]]
        for batch in (rows, later, rows[50:120]):
            answer = httpx.post(
                f"{store.url}/v0/events",
                params={"name": table, "wait": "true"},
                content=b"\n".join(map(orjson.dumps, batch)),
                headers={"Authorization": f"Bearer {store.append_token}"},
                timeout=60,
            )
            assert answer.json() == {"successful_rows": len(batch), "quarantined_rows": 0}
            sent += batch
    return sent


def counted(rows: Rows, by: str) -> dict[str, dict[str, Any]]:
    """What a report must contain for each group."""
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in reference.once(rows):
        groups[row[by]].append(row)
    return {
        name: {
            "requests": len(group),
            "errors": reference.failed(group),
            "unpriced": reference.count(group, "unpriced"),
            "cost_usd": reference.spent(group),
            "prompt_tokens": sum(row["tokens"][one] for row in group for one in reference.PROMPT),
            "completion_tokens": sum(row["tokens"][one] for row in group for one in reference.COMPLETION),
        }
        for name, group in groups.items()
    }


def test_json_has_the_totals_of_the_store(store: Sandbox, run: Run) -> None:
    """Totals, groups and periods, each event once in its last version, to the last digit."""
    rows = fill(store)

    done = run("--json", "--by", "tier,user,cost_status")

    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert list(said["by"]) == ["tier", "user", "cost_status"]
    for dimension, lines in said["by"].items():
        expected = counted(rows, dimension)
        found = {line["name"]: {**{key: line[key] for key in expected[line["name"]]}} for line in lines}
        assert {name: {**line, "cost_usd": Decimal(line["cost_usd"])} for name, line in found.items()} == expected
        assert [Decimal(line["cost_usd"]) for line in lines] == sorted(
            (line["cost_usd"] for line in expected.values()), reverse=True
        )
    assert said["total"]["requests"] == 400
    assert said["every"] == "hour"
    assert len(said["periods"]) in (24, 25)
    over_time = {one["name"]: sum(map(Decimal, one["cost_usd"])) for one in said["over_time"]}
    assert over_time == {name: line["cost_usd"] for name, line in counted(rows, "tier").items()}


def test_csv_has_the_same(store: Sandbox, run: Run) -> None:
    """One line a group, the total first."""
    rows = fill(store)

    [total, *lines] = csv.DictReader(io.StringIO(run("--csv", "--by", "model").stdout))

    assert (total["dimension"], total["requests"]) == ("total", "400")
    assert {line["name"]: Decimal(line["cost_usd"]) for line in lines} == {
        name: line["cost_usd"] for name, line in counted(rows, "model").items()
    }


def test_the_terminal_shows_tables(store: Sandbox, run: Run) -> None:
    """The default: by model, tier and user; markup in names is text."""
    fill(store)

    done = run()

    assert done.returncode == 0
    for word in ("400 requests", "by model", "by tier", "by user", "█", NASTY[:20]):
        assert word in done.stdout


@pytest.mark.parametrize("width", [80, 100, 160])
def test_names_are_shown_in_full(store: Sandbox, run: Run, width: int) -> None:
    """However narrow the terminal: less important columns are left out, and no line is longer than its width."""
    fill(store)

    said = run(COLUMNS=str(width)).stdout

    for dimension in ("model", "tier", "user"):
        for name in (line["name"] for line in json.loads(run("--json", "--by", dimension).stdout)["by"][dimension]):
            assert f"│ {name} " in said
    assert max(map(len, said.splitlines())) <= width
    for word in ("cost (USD)", "requests", "failed"):
        assert word in said
    assert ("│ █" in said) == (width == 160)


def test_an_empty_store(run: Run, tmp_path: Path) -> None:
    """It is not an error."""
    done = run("--html", "empty.html")

    assert done.returncode == 0
    assert "No event in this time" in (tmp_path / "empty.html").read_text()
    assert "$0   0 requests" in run().stdout


class _Page(HTMLParser):
    """Tags and attributes of a page, and whether its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "line", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_complete_and_loads_nothing(store: Sandbox, run: Run, tmp_path: Path) -> None:
    """No script, no link, no source; names with markup are text; every bar has a text."""
    fill(store)

    done = run("--html", "report.html", "--timezone", "Europe/Berlin")

    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.html").read_text()
    read = _Page()
    read.feed(text)
    assert read.open == []
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert not [value for name, value in read.attributes if name in ("src", "href", "srcset") or name.startswith("on")]
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert "&lt;script&gt;" in text
    assert "Europe/Berlin" in text
    assert "prefers-color-scheme: dark" in text
    assert read.tags.count("svg") == 2
    assert read.tags.count("title") >= 2 * 24


def test_days_and_the_others(store: Sandbox) -> None:
    """Over three days the periods are days; groups beyond the named ones are summed."""
    dice = random.Random(9)
    now = datetime(2026, 10, 28, 12, tzinfo=UTC)
    rows = made.sample(dice, "text_generation", [now - timedelta(hours=dice.randrange(1, 240)) for _ in range(300)])
    for nth, row in enumerate(rows):
        row["user"] = f"user-{nth % 40}"
    for row in rows[:30]:
        row["error_type"] = "client_error"
    post(store, "llm_events", rows)
    with Tinybird(store.url, "", store.read_token) as tinybird:
        report = read_report(
            tinybird.query, list(datasources()), now - timedelta(days=10), now, ["user"], ZoneInfo("Europe/Berlin")
        )
        without = read_report(
            *(tinybird.query, list(datasources()), now - timedelta(days=10), now, ["user"], ZoneInfo("UTC")),
            client_errors=False,
        )

    assert without.total.requests == sum(sum(one.requests) for one in without.over_time) == 270
    assert (report.every, len(report.periods)) == ("day", 11)
    assert report.periods[7].utcoffset() != report.periods[8].utcoffset()  # the clocks went back on the 25th
    lines = report.by["user"]
    assert len(lines) == 16
    assert lines[-1].name == "(others)"
    assert sum(line.requests for line in lines) == report.total.requests == 300
    assert sum((line.cost_usd for line in lines), Decimal(0)) == report.total.cost_usd == reference.spent(rows)
    assert len(report.over_time) == 8
    by_day = [sum(one.requests[nth] for one in report.over_time) for nth in range(11)]
    expected = [0] * 11
    for row in rows:
        local = datetime.fromisoformat(row["occurred_at"]).astimezone(ZoneInfo("Europe/Berlin")).date()
        expected[(local - report.periods[0].date()).days] += 1
    assert by_day == expected
    assert page(report).count("<svg") == 2


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "said"),
    [
        (["--since", "whenever"], {}, 2, "is not a time"),
        (["--since", "2199-01-01"], {}, 2, "is not in the past"),
        (["--by", "traceback"], {}, 2, "'traceback' is not a dimension; "),
        (["--by", ","], {}, 2, "'' is not a dimension; Known: "),
        (["--timezone", "Mars/Olympus"], {}, 2, "is not a time zone"),
        (["--json", "--csv"], {}, 2, "--json and --csv can't be combined; choose one"),
        (["--html", "/nonexistent/r.html"], {}, 2, "can't write /nonexistent/r.html: No such file or directory"),
        ([], {"TINYBIRD_READ_TOKEN": "p.wrong"}, 2, "none of birdfeed's data sources can be read"),
        ([], {"TINYBIRD_READ_TOKEN": ""}, 2, "TINYBIRD_READ_TOKEN is not set"),
        ([], {"TINYBIRD_HOST": "http://127.0.0.1:9"}, 3, "no answer"),
    ],
)
def test_errors(run: Run, arguments: list[str], settings: dict[str, str], code: int, said: str) -> None:
    """One sentence and an exit code."""
    done = run(*arguments, **settings)

    assert done.returncode == code
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_table_of_another_shape_is_left_out(store: Sandbox, run: Run) -> None:
    """The template's llm_events has no tier: the report says so, exits with 1, and still has the images."""
    store.replace_datasource("llm_events", existing_datasource())

    done = run("--json")

    assert done.returncode == 1
    assert "llm_events is left out" in " ".join(done.stderr.split())
    assert json.loads(done.stdout)["total"]["requests"] == 0


def test_numbers_for_people() -> None:
    """Few, significant digits."""
    assert [usd(Decimal(cost)) for cost in ("0", "0.0000028", "0.00075", "0.7", "1234.5")] == [
        "$0", "$2.80e-06", "$0.000750", "$0.700", "$1,234.50",
    ]  # fmt: skip
    assert [short(number) for number in (99_999, 100_000, 999_600, 12_345_678, 10**17)] == [
        "99,999", "100k", "1.00M", "12.3M", "100,000T",
    ]  # fmt: skip
    assert [bar(share) for share in (0, 0.001, 0.5, 1)] == ["", "▏", "█" * 8, "█" * 16]
    assert sparkline([0, 1, 8]) == " ▂█"
    assert sparkline([]) == ""
    assert [scale(largest) for largest in (0, 1, 19.6, 2_100)] == [(1, 1), (1.0, 0.5), (20.0, 5.0), (3_000.0, 1_000.0)]


#: Well-known names in place of the rows' own.
KNOWN = ("gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-flash")


@pytest.mark.slow
def test_the_picture_of_the_report(store: Sandbox, tmp_path: Path) -> None:
    """It fits the window, and shows costs by model with two plots.

    With BIRDFEED_TESTS_PICTURES=docs/pictures the README's picture is written again; tests/e2e/console/test_browser.py
    writes the console's.
    """
    dice, now = random.Random(4), datetime.now(UTC)
    moments = [now - timedelta(seconds=60 + 400 * number) for number in range(200)]
    rows = [{**row, "model": dice.choice(KNOWN)} for row in made.sample(dice, "text_generation", moments)]
    post(store, "llm_events", rows)
    with Tinybird(store.url, "", store.read_token) as tinybird:
        day = (now - timedelta(days=1), now)
        report = read_report(tinybird.query, list(datasources()), *day, ["model"], ZoneInfo("UTC"))
    (tmp_path / "report.html").write_text(page(report))

    with chromium() as browser:
        shown = browser.new_page(viewport={"width": 800, "height": 900}, color_scheme="light")
        shown.goto((tmp_path / "report.html").as_uri())
        wide = shown.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        folder = os.environ.get("BIRDFEED_TESTS_PICTURES", str(tmp_path))
        shown.screenshot(path=Path(folder) / "report.png")
        text = shown.inner_text("body")

    assert wide == 0
    assert page(report).count("<svg") == 2
    assert [model for model in KNOWN if model not in text] == []
