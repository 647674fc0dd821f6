"""Rules and dashboard: they use metrics that are exported, alerts fire and stop, and every query returns series."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from birdfeed_sandbox.process import Sandbox
from birdfeed_worker.monitoring.metrics import METRICS
from birdfeed_worker.monitoring.verdict import RULES

from tests.support.events import text
from tests.support.producer.apps.run import Server as RedisServer
from tests.support.repository import DOCS, ROOT
from tests.support.servers.elsewhere import handler_elsewhere
from tests.support.servers.redis_servers import free_port
from tests.support.servers.system import System
from tests.support.tools import need
from tests.support.wait import eventually

FOLDER = ROOT / "deploy" / "prometheus"
DASHBOARD = ROOT / "deploy" / "grafana" / "birdfeed.json"
RULE_FILES = sorted(FOLDER.glob("*.rules.yml"))
#: Labels that Prometheus adds, and those of histograms.
ADDED = {"instance", "job", "le"}
LABELS = re.compile(r"\bby \(([^)]*)\)|\{([^{}]*)\}")


def rules(kind: str) -> list[dict[str, Any]]:
    """All rules of a kind: alert or record."""
    files = [yaml.safe_load(path.read_text()) for path in RULE_FILES]
    return [rule for file in files for group in file["groups"] for rule in group["rules"] if kind in rule]


def queries() -> list[tuple[str, str, str]]:
    """(Panel, query, legend) of the dashboard, with Grafana's own variable filled in."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "1m"), target["legendFormat"])
        for panel in json.loads(DASHBOARD.read_text())["panels"]
        for target in panel.get("targets", [])
    ]


def expressions() -> list[str]:
    """Every expression of rules and dashboard."""
    return [rule["expr"] for kind in ("alert", "record") for rule in rules(kind)] + [query for _, query, _ in queries()]


def exported() -> set[str]:
    """Names of samples that birdfeed exports."""
    names = {metric.name for metric in METRICS if metric.kind != "histogram"}
    parts = ("bucket", "sum", "count")
    return names | {f"{metric.name}_{part}" for metric in METRICS if metric.kind == "histogram" for part in parts}


def labels_in(text: str) -> set[str]:
    """Label names in by (...) and in selectors."""
    found = set()
    for by, selector in LABELS.findall(text):
        found |= {name.strip() for name in by.split(",") if name.strip()}
        found |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
    return found


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_uses_metrics_and_labels_that_exist(expression: str) -> None:
    """Metrics by their names, labels that one of them has, and series that a rule records."""
    asked = set(re.findall(r"\bbirdfeed_\w+", expression))
    recorded = set(re.findall(r"\bbirdfeed:[\w:]+", expression))
    labels = {label for metric in METRICS for label in metric.labels if any(metric.name in name for name in asked)}

    assert asked | recorded
    assert asked - exported() == set()
    assert recorded - {rule["record"] for rule in rules("record")} == set()
    assert labels_in(expression) - labels - ADDED == set()


def test_every_metric_is_used() -> None:
    """On the dashboard or by an alert."""
    seen = set(re.findall(r"\bbirdfeed_\w+", " ".join(expressions())))
    seen |= {name.rpartition("_")[0] for name in seen}
    assert {metric.name for metric in METRICS} - seen == set()


def test_every_rule_of_the_verdict_has_an_alert() -> None:
    """By its own name, or by a metric that says the same."""
    text = " ".join(rule["expr"] for rule in rules("alert"))
    elsewhere = {
        "no_worker": "birdfeed_workers_alive",
        "redis_memory": "birdfeed_redis_memory_bytes",
        "redis_can_lose_events": "birdfeed_redis_warnings",
        "breaker_tripped": "birdfeed_circuit_breaker_tripped",
        "destination_paused": "birdfeed_destination_paused",
        "destination_backing_off": "birdfeed_destination_available",
        "token_refused": "birdfeed_token_refused_workers",
        "events_dropped": "birdfeed_events_dropped_total",
    }
    assert [rule.name for rule in RULES if elsewhere.get(rule.name, rule.name) not in text] == []
    named = set(re.findall(r"\w+", " ".join(re.findall(r'rule=~?"([^"]*)"', text))))
    assert named - {rule.name for rule in RULES} == set()


@pytest.mark.parametrize("alert", rules("alert"), ids=lambda alert: str(alert["alert"]))
def test_an_alert_links_to_the_runbook_and_is_tested(alert: dict[str, Any]) -> None:
    """To a section of the runbook that exists; its text uses labels that it has; tests.yml lets it fire and stop."""
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    titles = re.findall(r"^## (.*)$", (ROOT / page).read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}
    told = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
    tests = {test["name"]: test for test in yaml.safe_load((FOLDER / "tests.yml").read_text())["tests"]}
    samples = [check["exp_samples"] for check in tests[alert["alert"]]["promql_expr_test"]]

    assert anchor in anchors
    assert told <= labels_in(alert["expr"])
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert ([len(one) for one in samples], samples[0][0]["value"]) == ([1, 0], 1)


def test_every_alert_is_in_the_docs() -> None:
    """With what to do about it."""
    pages = (DOCS / "how-to" / "service-levels.md").read_text() + (DOCS / "how-to" / "deploy.md").read_text()
    assert [rule["alert"] for rule in rules("alert") if f"`{rule['alert']}`" not in pages] == []


def promtool(*args: object) -> subprocess.CompletedProcess[str]:
    """Run it."""
    command = [need("promtool", "prometheus"), *(str(one) for one in args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_promtool_accepts_rules_and_queries(tmp_path: Path) -> None:
    """The dashboard's queries as rules, because promtool doesn't read dashboards."""
    recorded = [{"record": f"q{number}", "expr": query} for number, (_, query, _) in enumerate(queries())]
    (tmp_path / "dashboard.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))

    result = promtool("check", "rules", *RULE_FILES, tmp_path / "dashboard.yml")

    assert result.returncode == 0, result.stderr + result.stdout


def test_promtool_rejects_an_invalid_query(tmp_path: Path) -> None:
    """The check itself."""
    (tmp_path / "x.yml").write_text("groups: [{name: x, rules: [{record: x, expr: 'max by (a (b)'}]}]")
    assert promtool("check", "rules", tmp_path / "x.yml").returncode != 0


@pytest.mark.slow
def test_every_alert_fires_and_stops() -> None:
    """deploy/prometheus/tests.yml, by promtool."""
    result = promtool("test", "rules", FOLDER / "tests.yml")
    assert result.returncode == 0, result.stderr + result.stdout


@contextmanager
def prometheus(port: int, folder: Path) -> Iterator[str]:
    """Debian's Prometheus with the rules, which scrapes a launcher's port twice a second; its URL."""
    program, own = need("prometheus", "prometheus"), free_port()
    config = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(path) for path in RULE_FILES],
        "scrape_configs": [{"job_name": "birdfeed", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{own}"], stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{own}"
    finally:
        process.terminate()
        process.wait(60)


def asked(url: str, query: str) -> list[Any]:
    """The series of an instant query; none while Prometheus isn't up."""
    try:
        with urllib.request.urlopen(
            f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=30
        ) as one:
            return list(json.load(one)["data"]["result"])
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return []
    except OSError:
        return []


@pytest.mark.slow
def test_every_query_of_the_dashboard_returns_a_series(tmp_path: Path) -> None:
    """Of a running pool with some failures of each kind; with the labels that its legend names."""
    port = free_port()
    stale = tmp_path / "token"
    stale.write_text("p.the-token-before-the-rotation")
    with (
        Sandbox() as sandbox,
        RedisServer(tmp_path / "valkey", appendfsync="no") as redis,
        System(redis.url, sandbox, tmp_path, BIRDFEED_METRICS_PORT=str(port)) as system,
        System(redis.url, sandbox, tmp_path, TINYBIRD_TOKEN_FILE=str(stale)) as other,
        handler_elsewhere(system, tmp_path / "web-9", may_enqueue=False) as handler,
        prometheus(port, tmp_path) as url,
    ):
        del other.environment["TINYBIRD_TOKEN"]
        system.start_pool(1)
        other.start_pool(1)
        waiting = queries()

        def happens() -> None:
            handler.track(3, wrongly=True)
            good, bad = text(request_id="r"), text(request_id="r", model=4.1)
            sent = [("text_generation", good)] * 5 + [("text_generation", bad), ("nothing_known", good)]
            system.send([*sent, ("image_generation", {"model": "flux"})])
            system.run("dead", "purge", "--reason", "unknown_event_type", "--yes")

        def all_answered() -> bool:
            happens()
            for one in list(waiting):
                title, query, legend = one
                series = asked(url, query)
                if series:
                    assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= set(series[0]["metric"]), (title, query)
                    waiting.remove(one)
            return not waiting

        try:
            eventually(all_answered, within=400, what="a series for every query")
        except AssertionError:
            raise AssertionError(f"no series: {waiting}; {asked(url, 'up')}") from None
        assert [one["metric"]["job"] for one in asked(url, "birdfeed_workers == 1")] == ["birdfeed"]
