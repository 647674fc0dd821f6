"""Units, image and manifests are accepted by their own tools, and agree with birdfeed's settings."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from birdfeed_worker.settings import WorkerSettings

from docs.scripts.references import settings
from tests.support.repository import DOCS, ROOT
from tests.support.servers.redis_servers import MUST_HAVE_ALL
from tests.support.tools import need

DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("birdfeed-*"))
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text()
SETTINGS = set(re.findall(r"`((?:BIRDFEED|TINYBIRD)_\w+)`", settings()))
VARIABLE = re.compile(r"\b(?:BIRDFEED|TINYBIRD)_[A-Z_]+\b")


def documents(name: str) -> list[dict[str, Any]]:
    """The manifests in a file."""
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()))


def found(kind: str, name: str = "worker.yml") -> dict[str, Any]:
    """The manifest of this kind."""
    return next(one for one in documents(name) if one["kind"] == kind)


def stop_seconds() -> float:
    """BIRDFEED_STOP_TIMEOUT 's default."""
    return float(WorkerSettings.model_fields["stop_timeout"].default)


@pytest.mark.parametrize(
    "path", [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()], ids=lambda path: path.name
)
def test_every_variable_is_a_setting(path: Path) -> None:
    """A misspelt one would be ignored silently."""
    assert set(VARIABLE.findall(path.read_text())) - SETTINGS == set()


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, with a birdfeed executable that exists, as systemd checks that."""
    command = tmp_path / "birdfeed"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    made = []
    for path in UNITS:
        made.append(tmp_path / path.name)
        made[-1].write_text(path.read_text().replace("/opt/birdfeed/.venv/bin/birdfeed", str(command)))
    return made


def test_the_page_installs_every_file() -> None:
    """Every unit, example and script is installed by the page."""
    page = (DOCS / "how-to" / "deploy.md").read_text()
    assert [path.name for path in (DEPLOY / "systemd").iterdir() if f"deploy/systemd/{path.name}" not in page] == []
    done = subprocess.run(["sh", "-n", DEPLOY / "systemd" / "birdfeed.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def verify(units: list[Path]) -> subprocess.CompletedProcess[str]:
    """systemd-analyze verify."""
    command = [need("systemd-analyze", "systemd"), "verify", "--man=no", *map(str, units)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_systemd_accepts_the_units(units: list[Path]) -> None:
    """Without any output."""
    result = verify(units)
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_notices_a_fault(units: list[Path]) -> None:
    """The check itself."""
    worker = next(unit for unit in units if unit.name == "birdfeed-worker.service")
    worker.write_text(worker.read_text().replace("KillMode=mixed", "KillMode=mixt"))
    assert "Failed to parse kill mode" in verify(units).stderr


@pytest.mark.parametrize("name", ["birdfeed-worker.service", "birdfeed-console.service"])
def test_units_have_few_privileges(units: list[Path], name: str) -> None:
    """By systemd's own score: 0 is nothing, 10 is everything."""
    unit = next(unit for unit in units if unit.name == name)
    command = [need("systemd-analyze", "systemd"), "security", "--offline=true", "--threshold=20", str(unit)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout


def test_every_supervisor_waits_longer_than_the_launcher() -> None:
    """Else it would kill workers that finish their jobs, or a replay's step.

    None restarts a process with wrong settings.
    """
    from birdfeed_cli.console.replays import STOP_SECONDS
    from birdfeed_cli.console.server import END_SECONDS

    unit = (DEPLOY / "systemd" / "birdfeed-worker.service").read_text()
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yml").read_text())["services"]["worker"]
    console = (DEPLOY / "systemd" / "birdfeed-console.service").read_text()
    assert float(re.findall(r"^TimeoutStopSec=(\d+)$", console, re.MULTILINE)[0]) >= STOP_SECONDS + END_SECONDS
    waits = [
        re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0],
        compose["stop_grace_period"].removesuffix("s"),
        found("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
    ]
    assert [float(wait) >= stop_seconds() + 10 for wait in waits] == [True] * 3
    assert ["\nRestartPreventExitStatus=2\n" in one for one in (unit, console)] == [True] * 2


def test_the_image_has_no_root_user_and_copies_files_that_exist() -> None:
    """Every source folder of the wheel, the lock, a user by number."""
    sources = {
        name for line in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }
    packages = re.findall(r'^    "(\w+)/birdfeed', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)

    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert set(packages) - sources == set()
    assert re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)[-1] != "0"
    assert DOCKERFILE.index("\nUSER ") < DOCKERFILE.index("\nENTRYPOINT ")


def test_containers_have_a_read_only_root_and_no_privileges() -> None:
    """In compose and in Kubernetes."""
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yml").read_text())["services"]
    pod = found("Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert {name: (one["read_only"], one["cap_drop"]) for name, one in compose.items()} == {
        name: (True, ["ALL"]) for name in ("redis", "worker", "console")
    }
    # No other machine reaches them.
    assert [
        port for one in compose.values() for port in one.get("ports", []) if not port.startswith("127.0.0.1:")
    ] == []
    assert (pod["securityContext"]["runAsNonRoot"], container["securityContext"]) == (
        True,
        {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
    )


def test_the_manifests_fit_together() -> None:
    """Probes ask for pages that are served, selectors match the pods, and so do the scaler and the budget."""
    deployment, budget, scaler = found("Deployment"), found("PodDisruptionBudget"), found("ScaledObject", "keda.yml")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("liveness", "startup", "readiness")}
    labels = deployment["spec"]["template"]["metadata"]["labels"]

    assert probes == {"liveness": "/healthz", "startup": "/healthz", "readiness": "/readyz"}
    # A page waits 3 s for Redis.
    assert [container[f"{name}Probe"]["timeoutSeconds"] > 3 for name in probes] == [True] * 3
    assert deployment["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert 0 < scaler["spec"]["minReplicaCount"] < scaler["spec"]["maxReplicaCount"]
    assert budget["spec"]["maxUnavailable"] < deployment["spec"]["replicas"]


def test_the_scaler_ignores_the_queue_in_an_outage() -> None:
    """promtool evaluates its queries for a queue in an outage, without an outage, and without any series."""
    import tempfile

    queries = [trigger["metadata"]["query"] for trigger in found("ScaledObject", "keda.yml")["spec"]["triggers"]]
    cases = {
        "fine": (1, 0, [900.0, 90.0]),
        "an outage": (0, 0, [0.0, 0.0]),
        "a breaker tripped": (1, 1, [0.0, 0.0]),
    }
    tests: list[dict[str, Any]] = []
    for name, (available, tripped, expected) in cases.items():
        values = {
            'birdfeed_queue_jobs{place="queued"}': 900,
            "birdfeed_lag_seconds": 90,
            'birdfeed_destination_available{datasource="llm_events"}': available,
            'birdfeed_destination_available{datasource="image_events"}': 1,
            "birdfeed_circuit_breaker_tripped": tripped,
        }
        series = [{"series": one, "values": f"{value}x5"} for one, value in values.items()]
        tests.append({"name": name, "input_series": series, "promql_expr_test": checks(queries, expected)})
    tests.append({"name": "nothing scraped", "promql_expr_test": checks(queries, [0.0, 0.0])})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.json"
        path.write_text(json.dumps({"evaluation_interval": "1m", "tests": tests}))
        command = [need("promtool", "prometheus"), "test", "rules", str(path)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr + result.stdout


def checks(queries: list[str], expected: list[float]) -> list[dict[str, Any]]:
    """What promtool compares after three minutes."""
    return [
        {"expr": query, "eval_time": "3m", "exp_samples": [{"labels": "{}", "value": value}]}
        for query, value in zip(queries, expected, strict=True)
    ]


def tool(name: str) -> str:
    """A linter from PyPI, which .ci/run installs in its own environment."""
    kept = os.environ.get("BIRDFEED_TESTS_DEPLOY_TOOLS")
    path = f"{kept}/{name}" if kept else shutil.which(name)
    if path is None:
        if MUST_HAVE_ALL:
            pytest.fail(f"BIRDFEED_TESTS_DEPLOY_TOOLS names no folder with {name}; .ci/run says how it is made")
        pytest.skip(f"{name} is not installed here: BIRDFEED_TESTS_DEPLOY_TOOLS names the folder that has it")
    return path


@pytest.mark.parametrize(
    ("name", "args", "file"),
    [
        ("hadolint", ["--failure-threshold=info"], "docker/Dockerfile"),
        ("kubernetes-validate", ["--strict"], "kubernetes/worker.yml"),
    ],
)
def test_linters_accept(name: str, args: list[str], file: str) -> None:
    """Without warnings."""
    command = [tool(name), *args, str(DEPLOY / file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_the_images_steps_work_in_an_empty_folder(tmp_path: Path) -> None:
    """As a build would run them; no image is built here."""
    command = [sys.executable, str(ROOT / ".ci" / "dockerfile_steps.py"), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert "no Redis is configured" in result.stdout
