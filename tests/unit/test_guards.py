"""Each filter between a value from outside and its reader is needed: without it the value reaches the reader.

Every row has a path through birdfeed's own code, and a filter on it. With the filter nothing of the marker is left;
without it the same path shows the marker, so each row also proves that the path can find it.
"""

import contextlib
import io
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from birdfeed.encoding.encoder import Encoder, Policy
from birdfeed.encoding.shape import Shape
from birdfeed.stats import Counters
from birdfeed_cli.common import console, redis_access
from birdfeed_cli.common.errors import Unreachable
from birdfeed_cli.report import charts, command
from birdfeed_cli.report.query import Line, Report
from birdfeed_schemas.event_structs import STRUCTS
from birdfeed_schemas.fields import SPELLINGS
from birdfeed_schemas.safety import private_files
from birdfeed_schemas.wire.envelope import Header, encode_event
from birdfeed_worker.errors import QueryError
from birdfeed_worker.model import Item
from birdfeed_worker.monitoring import metrics, prometheus
from birdfeed_worker.pipeline.validate import validate
from birdfeed_worker.process import logs
from birdfeed_worker.tinybird import erase
from birdfeed_worker.tinybird.client import Tinybird

from tests.support.events import envelope
from tests.support.servers.redis_servers import free_port

Patch = pytest.MonkeyPatch
#: A prompt; a terminal's control sequence; a formula; a token.
PROMPT, ESC, FORMULA, TOKEN = "zqMarker", "\x1b]52;c;aGk=\x07", "=cmd|'/c calc'!A1", "p." + "zq" * 20


def same(value: Any, *_: Any, **__: Any) -> Any:
    """The replacement of a function that makes a value harmless."""
    return value


def encoded(patch: Patch, tmp_path: Path) -> str:
    policy = Policy(hmac_key=b"k")
    shape = policy.shape(SPELLINGS["text_generation"], STRUCTS["text_generation"])
    data = {"model": "m", "user": f"user {PROMPT}", "error": ValueError(f"bad '{PROMPT}'"), "prompt": PROMPT}
    done = Encoder(policy, Counters()).encode("text_generation", data, shape)
    return "" if done is None else done[1].decode()


def died(patch: Patch, tmp_path: Path) -> str:
    event = envelope({"model": "m", "num_images": PROMPT}, "image_generation")
    item = Item("job", Header(batch_id="b", event_type="image_generation", count=1), encode_event(event), event)
    validate("image_generation", [item])
    return str(item.outcome)


def printed(patch: Patch, tmp_path: Path) -> str:
    shown = console.SafeConsole()
    shown.file = io.StringIO()
    shown.print(f"model {ESC}")
    return shown.file.getvalue()


def printed_json(patch: Patch, tmp_path: Path) -> str:
    raw = io.BytesIO()
    patch.setattr(sys, "stdout", SimpleNamespace(buffer=raw, flush=lambda: None))
    console.print_json({"model": "\x9b31m"})
    return raw.getvalue().decode()


def spreadsheet(patch: Patch, tmp_path: Path) -> str:
    store = SimpleNamespace(query=lambda sql: [])
    patch.setattr(command, "open_store", lambda settings: contextlib.nullcontext(store))
    patch.setattr(command, "_tables", lambda store, tell: ["llm_events", "image_events"])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    report = Report(since=now, until=now, zone="UTC", total=Line(name=""), by={}, every="day", periods=[])
    patch.setattr(command, "read_report", lambda *_, **__: report)
    patch.setattr(command, "_as_csv", lambda report: [[FORMULA]])
    patch.setattr(sys, "stdout", out := io.StringIO())
    command.run_report(datetime(2026, 1, 1, tzinfo=UTC), "model", "UTC", as_json=False, as_csv=True, html=None)
    return "\n" + out.getvalue()


def charted(patch: Patch, tmp_path: Path) -> str:
    return charts.stacked_bars("<script>", [datetime(2026, 1, 1, tzinfo=UTC)], "day", [("m", [1.0], "red")], str)


def exposed(patch: Patch, tmp_path: Path) -> str:
    return prometheus.expose([(metrics.AVAILABLE, {(ESC,): 1.0})]).decode()


def counted(patch: Patch, tmp_path: Path) -> str:
    account = SimpleNamespace(accepted=1, written=0, purged=0, in_flight=0, missing=0, dead={}, dropped={})
    status: Any = SimpleNamespace(ledger=SimpleNamespace(accounts={PROMPT: account}))
    return str(prometheus._ledger(status))


def logged(patch: Patch, tmp_path: Path) -> str:
    patch.setattr(sys, "stderr", out := io.StringIO())
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure_logs("console", "info")
        logging.getLogger("birdfeed_worker").warning("a type: %s", "\nFORGED: all is well")
    finally:
        root.handlers[:], root.level = before, level
    return out.getvalue()


def refused(patch: Patch, tmp_path: Path) -> str:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"error": f"the token {TOKEN} may not do this"})

    tinybird = Tinybird("http://localhost", "", TOKEN, transport=httpx.MockTransport(answer))
    with tinybird, pytest.raises(QueryError) as caught:
        tinybird.query("SELECT 1")
    return str(caught.value)


def unreachable(patch: Patch, tmp_path: Path) -> str:
    patch.setenv("BIRDFEED_REDIS_URL", f"redis://:{PROMPT}@127.0.0.1:{free_port()}/0")
    patch.chdir(tmp_path)
    with pytest.raises(Unreachable) as caught:
        redis_access.open_redis()
    return str(caught.value)


def condition(patch: Patch, tmp_path: Path) -> str:
    return erase.condition_of({"x') OR (1"}, ["user"])


def written(patch: Patch, tmp_path: Path) -> str:
    file = tmp_path / "page.html"
    file.touch()
    file.chmod(0o644)
    private_files.write_private(file, "page")
    return oct(file.stat().st_mode)


def open_condition(text: str) -> str:
    return f"'{text}'"


#: Filter: a path through it, what switches it off, and the marker.
GUARDS: dict[str, tuple[Callable[[Patch, Path], str], Callable[[Patch], None], str]] = {
    "the list of fields": (
        encoded, lambda patch: patch.setattr(Shape, "admitted", lambda *_, **__: {"prompt": PROMPT}), PROMPT,
    ),
    "the HMAC": (
        encoded, lambda patch: patch.setattr("birdfeed.encoding.encoder.pseudonym", lambda key, plain: plain), PROMPT,
    ),
    "an error's message": (encoded, lambda patch: patch.setattr("birdfeed.encoding.redact.redacted", same), PROMPT),
    "reasons of dead letters": (
        died, lambda patch: patch.setattr("birdfeed_worker.pipeline.validate.reasons", str), PROMPT,
    ),
    "the terminal": (printed, lambda patch: patch.setattr(console, "visible", same), "\x1b]52"),
    "JSON on a terminal": (printed_json, lambda patch: patch.setattr(console, "json_text", same), "\x9b"),
    "CSV": (spreadsheet, lambda patch: patch.setattr(command, "csv_cell", same), "\n=cmd"),
    "the page": (charted, lambda patch: patch.setattr(charts, "html_text", same), "<script>"),
    "Prometheus's labels": (exposed, lambda patch: patch.setattr(prometheus, "label", same), "\x1b]52"),
    "names of types in metrics": (counted, lambda patch: patch.setattr(prometheus, "known_type", same), PROMPT),
    "lines of the log": (logged, lambda patch: patch.setattr(logs, "visible", same), "\nFORGED"),
    "tokens in answers": (
        refused, lambda patch: patch.setattr("birdfeed_worker.tinybird.responses.redact", same), TOKEN,
    ),
    "passwords in URLs": (unreachable, lambda patch: patch.setattr(redis_access, "shown", same), PROMPT),
    "quotes in SQL": (condition, lambda patch: patch.setattr(erase, "sql_text", open_condition), "x') OR"),
    "modes of files": (written, lambda patch: patch.setattr("os.fchmod", lambda *_: None), "44"),
}  # fmt: skip


@pytest.mark.parametrize("guard", sorted(GUARDS))
def test_it_works_and_is_needed(guard: str, tmp_path: Path) -> None:
    """With it nothing of the marker is left, without it the marker is."""
    way, switch_off, marker = GUARDS[guard]
    with Patch.context() as patch:
        assert marker not in way(patch, tmp_path)
    (tmp_path / "page.html").unlink(missing_ok=True)
    with Patch.context() as patch:
        switch_off(patch)
        assert marker in way(patch, tmp_path)


def test_markers_can_be_found() -> None:
    """A marker that no JSON or text can contain would never be found."""
    assert orjson.loads(orjson.dumps([PROMPT, ESC, FORMULA, TOKEN])) == [PROMPT, ESC, FORMULA, TOKEN]
