"""`birdfeed demo`: what a new user sees first, and its check of the result."""

from collections import Counter
from pathlib import Path

import pytest
from birdfeed_cli.local.demo import check

from tests.support.commands import birdfeed, clean_environment


def test_the_demo_succeeds_whatever_is_set(tmp_path: Path) -> None:
    """An outage, a killed worker and a replay; none of the user's own settings affects it."""
    (tmp_path / ".env").write_text("BIRDFEED_ENABLED=false\nBIRDFEED_KEY_PREFIX=mine\n")
    environment = {
        **clean_environment(),
        "BIRDFEED_QUEUE": "mine",
        "BIRDFEED_WAIT_REPLICAS": "3",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    done = birdfeed("demo", "--events", "1500", environment=environment, folder=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every event is in the store once, or in a dead letter with its reason." in done.stdout


ROWS = Counter({"a": 1, "b": 1})
IDS = Counter({"1": 1, "2": 1})
DEAD = [("c", "3")]


def test_the_check_passes() -> None:
    """Two rows, one dead event."""
    assert check(["a", "b", "c"], ROWS, IDS, DEAD, 0) == []


@pytest.mark.parametrize(
    ("tracked", "rows", "ids", "dead", "dropped", "said"),
    [
        (["a", "b", "c", "d"], ROWS, IDS, DEAD, 0, "1 event is lost"),
        (["a", "b", "c"], ROWS + Counter({"a": 1}), IDS + Counter({"1": 1}), DEAD, 0, "1 event is in more than one"),
        (["a", "b", "c"], ROWS, IDS, [*DEAD, ("a", "1")], 0, "1 event is in more than one place"),
        (["a", "b"], ROWS, IDS, DEAD, 0, "1 event in the store was never tracked"),
        (["a", "b", "c"], ROWS, IDS, [("c", "2")], 0, "1 event_id is in more than one place"),
        (["a", "b", "c"], ROWS, Counter({"1": 2}), DEAD, 0, "1 event_id too many or too few"),
        (["a", "b", "c"], ROWS, IDS, DEAD, 4, "4 events were dropped"),
    ],
    ids=["lost", "twice", "written and dead", "a stranger", "an id twice", "one id for two", "dropped"],
)
def test_the_check_fails(
    tracked: list[str],
    rows: Counter[str],
    ids: Counter[str],
    dead: list[tuple[str, str]],
    dropped: int,
    said: str,
) -> None:
    """Each reason is named."""
    assert said in "; ".join(check(tracked, rows, ids, dead, dropped))
