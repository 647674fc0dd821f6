"""`birdfeed prices reprice` on a store over HTTP: what it shows and writes, what it doesn't change, how it continues.

Longer than other files: its tests share one filled store, which takes seconds to make.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from birdfeed_cli.app import app
from birdfeed_sandbox.process import Sandbox
from birdfeed_schemas.wire.keys import Keys
from birdfeed_worker.dead_letters.audit import entries, who
from birdfeed_worker.pricing.book.reload import BookSource
from redis import Redis
from typer.testing import CliRunner

from tests.support.repository import ROOT
from tests.support.stored import store, use

#: When the events were tracked.
THEN = datetime.now(UTC).replace(microsecond=123456) - timedelta(hours=30)
OLD = """
service_tiers = { batch = 0.5 }

[[model]]
name = "chat"
original_name = "chat-2026"
provider = "maker"
unit = "token"
price = { prompt_text = 1, prompt_cached = 0.1, completion_text = 4 }

[[model]]
name = "still"
unit = "token"
price = { prompt_text = 7 }

[[model]]
name = "picture"
unit = "image"
price = { image = 0.04, variants = [{ when = { quality = "hd" }, image = 0.12 }] }

[[model]]
name = "pixels"
unit = "megapixel"
price = { megapixel = 0.003 }

[[model]]
name = "film"
unit = "second"
price = { video_second = 0.08, audio_second = 0.02 }
"""
NEW = (
    OLD.replace("prompt_text = 1,", "prompt_text = 3,")
    .replace("image = 0.12", "image = 0.2")
    .replace("megapixel = 0.003", "megapixel = 0.0031")
    .replace("video_second = 0.08", "video_second = 0.09")
    + '[[model]]\nname = "fresh"\nunit = "token"\nprice = { prompt_text = 0.5 }\n'
)
USAGE = {
    "prompt_tokens": 1_000_003,
    "completion_tokens": 70_001,
    "prompt_tokens_details": {"cached_tokens": 400_000},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
#: A value for every field, none of them a column's default.
FULL = {
    "model": "chat-asked",
    "model_used": "chat-2026",
    "user": "u'1\\",
    "username": 'Ünïcode "x"',
    "tier": "seed",
    "duration": 1234.5678,
    "status": "error",
    "error": {"type": "T", "message": "line\nline", "code": "429", "traceback": "at x"},
    "request_id": "r-full",
    "environment": "prod",
    "organization": "o",
    "project": "p",
    "referrer": "https://x",
    "cache_key": "k",
    "service_tier": "batch",
    "usage": USAGE,
    "stream": True,
    "response_id": "resp",
    "chat_id": "c",
    "moderation": {"hate": {"filtered": True}},
    "colour": "blue",
    "other": 1,
}
TEXTS: list[dict[str, Any]] = [
    FULL,
    {"model": "chat", "usage": USAGE, "request_id": "plain"},
    {"model": "still", "usage": USAGE, "request_id": "still"},
    {"model": "fresh", "usage": USAGE, "request_id": "fresh"},
    {"model": "nobody-knows", "usage": USAGE, "request_id": "unknown"},
    {"model": "chat", "usage": USAGE, "cost": "0.123", "request_id": "reported"},
    {"model": "chat", "usage": USAGE, "cache_hit": True, "request_id": "cached"},
    {"model": "chat", "request_id": "no-usage"},
    {"model": "chat", "usage": {"prompt_tokens": -1}, "request_id": "invalid"},
]
IMAGES: list[dict[str, Any]] = [
    {"model": "picture", "num_images": 3, "quality": "hd", "has_input_image": True, "request_id": "hd"},
    {"model": "picture", "request_id": "one"},
    {"model": "picture", "status": "error", "request_id": "none"},
    {"model": "pixels", "image_size": "1000x777", "num_images": 2, "request_id": "pixels"},
    {"model": "film", "video_seconds": 1 / 3, "audio_seconds": 7.1, "request_id": "film"},
]
#: The new book's costs of the rows that it changes.
CHANGED = {
    "r-full": (Decimal("0.4600035"), Decimal("1.0600065")),
    "plain": (Decimal("0.920007"), Decimal("2.120013")),
    "fresh": (Decimal(0), Decimal("0.5000015")),
    "hd": (Decimal("0.36"), Decimal("0.6")),
    "pixels": (Decimal("0.004662"), Decimal("0.0048174")),
    "film": (Decimal("0.168666666667"), Decimal("0.172")),
}


class Shop:
    """A store with rows priced by an old book, and the command with a new one."""

    def __init__(self, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sandbox = sandbox
        self.book = folder / "prices.toml"
        self.book.write_text(OLD)
        use(sandbox, folder, self.book, monkeypatch)

    def store(self, event_type: str, events: list[dict[str, Any]], when: datetime = THEN, **times: Any) -> None:
        store(self.sandbox, BookSource(self.book), event_type, [(when, event) for event in events], **times)

    def run(self, *options: str, since: str = "7d") -> tuple[int, str]:
        done = CliRunner().invoke(app, ["prices", "reprice", "--since", since, *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, " ".join(done.output.replace("│", " ").split())

    def run_json(self, *options: str, since: str = "7d") -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(app, ["prices", "reprice", "--since", since, "--json", *options])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.output
        said: dict[str, Any] = json.loads(done.stdout)
        return done.exit_code, said

    def rows(self, table: str, final: str = "FINAL") -> list[dict[str, Any]]:
        return self.sandbox.sql(f"SELECT * REPLACE(toString(cost) AS cost) FROM {table} {final} ORDER BY event_id")

    def costs(self, final: str = "FINAL") -> dict[str, Decimal]:
        rows = [*self.rows("llm_events", final), *self.rows("image_events", final)]
        return {row["request_id"]: Decimal(row["cost"]) for row in rows}

    def endpoint_total(self) -> tuple[int, Decimal]:
        """Requests and cost of everything, as the endpoint answers it."""
        answer = httpx.get(
            f"{self.sandbox.url}/v0/pipes/birdfeed_cost.json",
            params={"every": "total", "by": "event_type"},
            headers={"Authorization": f"Bearer {self.sandbox.read_token}"},
        )
        rows = json.loads(answer.raise_for_status().text, parse_float=Decimal)["data"]
        return sum(int(row["requests"]) for row in rows), sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0))


@pytest.fixture
def shop(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(sandbox, tmp_path, monkeypatch)
    shop.store("text_generation", TEXTS)
    shop.store("image_generation", IMAGES)
    return shop


def test_a_new_book_for_old_rows(shop: Shop) -> None:
    """The difference is shown, the corrections written, each event counts once at its newest price; a second run writes
    nothing.

    A correction changes only the price's columns.
    """
    before = {table: shop.rows(table) for table in ("llm_events", "image_events")}
    assert {name: cost for name, cost in shop.costs().items() if name in CHANGED} == {
        name: old for name, (old, _) in CHANGED.items()
    }
    shop.book.write_text(NEW)

    code, dry = shop.run_json("--dry-run")
    assert (code, dry["corrections"], dry["written"]) == (0, len(CHANGED), 0)
    assert Decimal(dry["old_cost"]) == sum(old for old, _ in CHANGED.values())
    assert Decimal(dry["new_cost"]) == sum(new for _, new in CHANGED.values())
    assert {one["model"]: one["rows"] for one in dry["models"]} == {
        "chat-asked": 1,
        "chat": 1,
        "fresh": 1,
        "picture": 1,
        "pixels": 1,
        "film": 1,
    }
    assert dry["unchanged"] == {"same_price": 6, "no_book_decides": 2}
    assert dry["refused"] == {}
    assert before == {table: shop.rows(table, "") for table in before}

    code, said = shop.run("--yes")
    assert code == 0
    assert "14 events" in said
    assert "all 6 1.913339166667" in said
    assert "6 corrections are written" in said
    assert {name: cost for name, cost in shop.costs().items() if name in CHANGED} == {
        name: new for name, (_, new) in CHANGED.items()
    }
    assert shop.endpoint_total() == (len(TEXTS) + len(IMAGES), sum(shop.costs().values()))
    price_columns = {"cost", "cost_status", "enriched_at"}
    for table, rows in before.items():
        after = shop.rows(table)
        assert len(after) == len(rows)
        for was, now in zip(rows, after, strict=True):
            differing = {name for name in was if was[name] != now[name]}
            assert {name for name in differing if not name.startswith("price_")} <= price_columns
            assert ("cost" in differing) == (was["request_id"] in CHANGED), was["request_id"]
            assert (now["enriched_at"] > was["enriched_at"]) == (was["request_id"] in CHANGED)
            assert ("enriched_at" in differing) == (was["request_id"] in CHANGED)

    code, again = shop.run_json("--yes")
    assert (code, again["corrections"], again["written"]) == (0, 0, 0)
    assert again["unchanged"] == {"same_book": 6, "same_price": 6, "no_book_decides": 2}


def test_who_repriced_is_in_the_log(
    shop: Shop, redis: Redis, keys: Keys, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry before and after the rows are written; a dry run isn't logged, and it works without Redis."""
    shop.book.write_text(NEW)
    monkeypatch.setenv("BIRDFEED_REDIS_URL", "redis://127.0.0.1:1/0")
    code, said = shop.run("--yes", "--limit", "2")
    assert (code, "2 corrections are written" in said) == (0, True)
    assert "not recorded for `birdfeed dead log`" in said
    monkeypatch.setenv("BIRDFEED_REDIS_URL", valkey_url)
    shop.run("--dry-run")
    assert list(entries(redis, keys)) == []

    shop.run("--yes", "--model", "chat", "--model", "chat-asked", "--model", "fresh", "--model", "film")

    after, before = entries(redis, keys)
    assert (before.action, after.action) == ("reprice begins", "reprice ends")
    assert before.who == after.who == who()
    assert before.details["models"] == ["chat", "chat-asked", "fresh", "film"]
    assert before.details["corrections"] == after.details["written"] > 0


def test_by_model_and_time(shop: Shop) -> None:
    """Filtered by any of a model's names, and by the time it was tracked."""
    shop.book.write_text(NEW)

    assert shop.run_json("--dry-run", "--model", "chat-2026")[1]["corrections"] == 1
    assert shop.run_json("--dry-run", "--model", "chat")[1]["corrections"] == 2
    assert shop.run_json("--dry-run", "--model", "film", "--model", "fresh")[1]["corrections"] == 2
    assert shop.run_json("--dry-run", "--model", "it's \\ nothing")[1]["events"] == 0
    assert shop.run_json("--dry-run", since="24h")[1]["events"] == 0
    assert shop.run_json("--dry-run", "--until", "31h")[1]["events"] == 0
    assert shop.run_json("--dry-run", "--until", "29h")[1]["events"] == 14


def test_the_price_of_the_events_time_is_used(shop: Shop) -> None:
    """A price that came into force between two requests changes only the later one, by start_time."""
    start = THEN - timedelta(days=2)
    day = f"{start + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    for request_id, at in (("early", start), ("late", THEN)):
        shop.store("text_generation", [{"model": "still", "usage": USAGE, "start_time": at, "request_id": request_id}])
    dated = f"price = [{{ until = {day}, prompt_text = 7 }}, {{ from = {day}, prompt_text = 70 }}]"
    shop.book.write_text(OLD.replace("price = { prompt_text = 7 }", dated))

    code, said = shop.run_json("--yes", "--model", "still")

    assert (code, said["written"]) == (0, 2)
    costs = shop.costs()
    assert costs["early"] * 10 == costs["late"] == costs["still"]


def test_without_confirmation_nothing_is_written(shop: Shop) -> None:
    """Where there is no terminal to ask on, the command says what to add."""
    shop.book.write_text(NEW)
    code, said = shop.run()

    assert code == 2
    assert "can't ask for confirmation without a terminal: add --yes" in said


def test_declining_writes_nothing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the difference is shown, then the question; the answer no exits with 1."""
    shop.book.write_text(NEW)
    before = shop.costs()
    monkeypatch.setattr("birdfeed_cli.prices.reprice.must_be_answerable", lambda **_: None)

    done = CliRunner().invoke(app, ["prices", "reprice", "--since", "7d"], input="n\n")

    assert done.exit_code == 1
    assert "difference" in done.stdout
    assert f"Write {len(CHANGED)} corrections?" in done.stderr
    assert "declined; nothing was changed" in done.stderr
    assert shop.costs() == before


def test_a_stored_cost_is_explained(shop: Shop) -> None:
    """By the row's own receipt, whatever the current book says; a receipt that the table changed is named."""
    shop.book.write_text(NEW)
    rows = shop.sandbox.sql(
        "SELECT event_id, request_id FROM llm_events UNION ALL SELECT event_id, request_id FROM image_events"
    )
    ids = {row["request_id"]: row["event_id"] for row in rows}

    plain, hd, none = (
        CliRunner().invoke(app, ["prices", "explain", "--event", event_id])
        for event_id in (ids["plain"], ids["hd"], "no-such-id")
    )

    assert (plain.exit_code, hd.exit_code, none.exit_code) == (0, 0, 1)
    assert "prompt_cached: 400,000 / 1,000,000 * 0.1 = 0.04" in plain.stdout
    assert "cost: 0.920007 USD, priced" in plain.stdout
    assert "image: 3 * 0.12 = 0.36" in hd.stdout
    assert "no row has the event id 'no-such-id' in llm_events, image_events" in none.stderr


@pytest.mark.parametrize(("since", "options"), [("zz", ()), ("7d", ("--until", "zz"))])
def test_an_invalid_time(shop: Shop, since: str, options: tuple[str, ...]) -> None:
    """The message has the argument and the format of a time."""
    code, said = shop.run("--dry-run", *options, since=since)

    wrong = since if since != "7d" else "zz"
    assert code == 2
    assert f"'{wrong}' is not a time; " in said


def test_a_canary_then_the_rest(shop: Shop) -> None:
    """--limit corrects this many rows; the next run continues after them."""
    shop.book.write_text(NEW)
    code, first = shop.run_json("--yes", "--limit", "2")
    assert (code, first["written"], first["limited"]) == (0, 2, True)

    code, rest = shop.run_json("--yes")

    assert (code, rest["written"], rest["limited"]) == (0, len(CHANGED) - 2, False)
    assert {name: cost for name, cost in shop.costs().items() if name in CHANGED} == {
        name: new for name, (_, new) in CHANGED.items()
    }


def test_it_continues_after_an_outage(shop: Shop) -> None:
    """Tinybird refuses after the canary: the exit code says so, and the same command writes the rest once."""
    shop.book.write_text(NEW)
    shop.sandbox.fault(on="events", datasource="image_events", auth=403)
    code, said = shop.run("--yes")
    assert code == 3
    assert "HTTP 403" in said
    assert "3 corrections are written; run the same command again to continue" in said
    shop.sandbox.clear_faults()

    code, rest = shop.run_json("--yes")

    assert (code, rest["written"]) == (0, 3)
    assert len(shop.rows("llm_events", "")) == len(TEXTS) + 3


def test_an_unknown_outcome_is_tried_again(shop: Shop) -> None:
    """The rows are written and answered with a 504: the same version twice counts once."""
    shop.book.write_text(NEW)
    shop.sandbox.fault(commit_then_status=504, times=1)
    code, said = shop.run_json("--yes")

    assert (code, said["written"]) == (0, len(CHANGED))
    assert len(shop.rows("llm_events")) == len(TEXTS)


def test_a_row_that_contradicts_its_receipt_is_refused(shop: Shop) -> None:
    """Where the table changed a count (a narrow column), no wrong price is written."""
    shop.sandbox.sql(
        "INSERT INTO llm_events SELECT * REPLACE(toUInt64(4464) AS prompt_text_tokens, 'x' AS event_id) "
        "FROM llm_events WHERE request_id = 'plain'"
    )
    shop.book.write_text(NEW)
    code, said = shop.run_json("--yes")

    assert (code, said["refused"], said["written"]) == (1, {"receipt_mismatch": 1}, len(CHANGED))


def test_tables_of_another_schema_are_refused(shop: Shop) -> None:
    """The LLM template's own table, and one with an extra column: one sentence each; the other table is repriced."""
    ours = (ROOT / "schemas/birdfeed_schemas/data/datasources/llm_events.datasource").read_text()
    shop.sandbox.replace_datasource(
        "llm_events", ours.replace("SCHEMA >\n", "SCHEMA >\n    `mine` String `json:$.m` DEFAULT '',\n")
    )
    shop.store("text_generation", TEXTS)
    shop.book.write_text(NEW)
    code, said = shop.run_json("--yes")
    assert (code, said["written"]) == (1, 3)
    assert said["refused_tables"] == [
        "llm_events has columns that birdfeed doesn't know (mine): writing its rows again would lose what is in them"
    ]

    existing = "\n".join(line for line in ours.splitlines() if "`price_" not in line and "`tier" not in line)
    shop.sandbox.replace_datasource("llm_events", existing)
    shop.store("text_generation", TEXTS)
    code, said = shop.run_json("--yes")
    assert code == 1
    assert "llm_events is not birdfeed's own table (it has no price_book, price_match" in said["refused_tables"][0]

    plain = ours.replace('ENGINE "ReplacingMergeTree"', 'ENGINE "MergeTree"').replace('ENGINE_VER "enriched_at"', "")
    shop.sandbox.replace_datasource("llm_events", plain)
    shop.store("text_generation", TEXTS)
    code, said = shop.run_json("--yes")
    assert code == 1
    assert "llm_events can't be repriced" in said["refused_tables"][0]


def test_a_read_quota_that_is_used_up(shop: Shop) -> None:
    """Exit code 3 and when to come back; nothing is lost."""
    shop.sandbox.fault(on="reads", read_quota=2, retry_after=3600)
    code, said = shop.run("--dry-run")

    assert code == 3
    assert "read quota is used up" in said


def test_many_rows_in_small_pages(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows in an hour than a page holds, over several hours: each is processed once."""
    monkeypatch.setattr("birdfeed_worker.operations.reprice.row_reader.PAGE_ROWS", 7)
    for hour in range(3):
        when = THEN + timedelta(hours=hour)
        shop.store(
            "text_generation",
            [{"model": f"still-{n % 3}", "model_used": "still", "usage": USAGE} for n in range(20)],
            when,
        )
    shop.book.write_text(OLD.replace("prompt_text = 7", "prompt_text = 8"))
    code, said = shop.run_json("--yes", "--model", "still")

    assert (code, said["written"]) == (0, 61)
    assert sum(one["rows"] for one in said["models"]) == 61
    assert shop.run_json("--dry-run", "--model", "still")[1]["unchanged"] == {"same_book": 61}
