"""`birdfeed up` where a part stops by itself: a sentence names it and its log."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from birdfeed_cli.local import up


class Stopped:
    """Servers, one of which has stopped."""

    def __init__(self, *_: object, pool: int | None = None, sandbox: int | None = None, valkey: bool = True) -> None:
        self.pool = SimpleNamespace(poll=lambda: pool, returncode=pool)
        self.sandbox = SimpleNamespace(poll=lambda: sandbox, returncode=sandbox)
        self.valkey = SimpleNamespace(is_running=lambda: valkey, log_path="valkey.log")
        self.environment = {"BIRDFEED_REDIS_URL": "redis://localhost", "TINYBIRD_HOST": "http://localhost"}
        self.data_dir = Path("data")

    def __enter__(self) -> "Stopped":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to stop."""

    def start_pool(self, processes: int | None) -> Any:
        """Start nothing."""
        return self.pool


@pytest.mark.parametrize(
    ("stopped", "said"),
    [
        ({"pool": 2}, "the workers stopped (exit code 2); see their log above"),
        ({"sandbox": 1}, "the sandbox Tinybird stopped (exit code 1); see its log above"),
        ({"valkey": False}, "the embedded Valkey stopped; its log is valkey.log"),
    ],
    ids=str,
)
def test_a_part_that_stops_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, stopped: Any, said: str
) -> None:
    """Exit code 1."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(up, "Stack", lambda *_, **__: Stopped(**stopped))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    code = up.run_up(tmp_path, None, None, None)

    assert (code, said in capsys.readouterr().err) == (1, True)
