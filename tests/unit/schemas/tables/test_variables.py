"""A misspelt variable is found; other programs' variables are not reported."""

import re

import pytest
from birdfeed.settings import ProducerSettings
from birdfeed_cli.setup.settings import names_of
from birdfeed_schemas.tables.variables import VARIABLES, meant, unknown_variables
from birdfeed_worker.settings import WorkerSettings

from tests.support.repository import DOCS

#: The table of the upgrade guide: a setting's former name → its present name.
RENAMED = dict(
    re.findall(
        r"^ *\| `(BIRDFEED_\w+)` \| `(BIRDFEED_\w+)` \|$", (DOCS / "how-to" / "upgrade.md").read_text(), re.MULTILINE
    )
)


def test_the_names_are_those_of_both_models() -> None:
    """Of producer and worker, as they may share an environment."""
    names = {
        name
        for model in (ProducerSettings, WorkerSettings)
        for field, info in model.model_fields.items()
        for name in names_of(field, info)
    }
    assert {f"BIRDFEED_{name}" for name in VARIABLES} == {name for name in names if name.startswith("BIRDFEED_")}


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("BIRDFEED_REDIS_ULR", "BIRDFEED_REDIS_URL"),
        ("birdfeed_quue", "BIRDFEED_QUEUE"),
        ("BIRDFEED_METRIC_PORT", "BIRDFEED_METRICS_PORT"),
        ("BIRDFEED_FLUSH_INTERVALL", "BIRDFEED_FLUSH_INTERVAL"),
        ("BIRDFEED_SOMETHING_ELSE", ""),
        *RENAMED.items(),
    ],
)
def test_misspelt_variables(name: str, meaning: str) -> None:
    """With the most similar setting."""
    assert unknown_variables({name: "5"}) == {name: meaning}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BIRDFEED_QUEUE", "staging"),
        ("birdfeed_queue", "staging"),
        ("BIRDFEED_PROCESSES", "4"),
        ("PATH", "/bin"),
        ("MY_BIRDFEED_QUUE", "x"),
        ("BIRDFEED_SANDBOX_READ_TOKEN", "t"),
        # Kubernetes', of a service named birdfeed, and one named birdfeed-worker.
        ("BIRDFEED_SERVICE_HOST", "10.0.0.1"),
        ("BIRDFEED_WORKER_SERVICE_PORT_HTTP", "80"),
        ("BIRDFEED_PORT", "tcp://10.0.0.1:80"),
        ("BIRDFEED_PORT_80_TCP_ADDR", "10.0.0.1"),
    ],
)
def test_what_is_not_reported(name: str, value: str) -> None:
    """Settings, and variables that are not for birdfeed."""
    assert unknown_variables({name: value}) == {}


def test_a_hint_is_given_only_where_there_is_one() -> None:
    """In a sentence."""
    assert meant("redis_ulr", ["redis_url", "queue"]) == "; did you mean redis_url?"
    assert meant("zzz", ["redis_url", "queue"]) == ""


def test_the_upgrade_guide_lists_renamed_settings() -> None:
    """With new names that exist."""
    assert len(RENAMED) == 4
    assert {name.removeprefix("BIRDFEED_") for name in RENAMED.values()} <= VARIABLES
