"""What `import birdfeed` costs a process that has just begun."""

import os
import subprocess
import sys
from pathlib import Path


def test_importing_it_is_cheap_and_starts_nothing(tmp_path: Path) -> None:
    """No redis, rq, pydantic, asyncio or sqlite3; no thread; also beside modules with the names of our folders."""
    for name in ("schemas", "worker", "producer"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong module')")
    code = (
        # redis imports OpenTelemetry where it is installed, as for our benchmarks.
        "import sys, threading, time; sys.modules['opentelemetry'] = None; start = time.process_time(); import {}; "
        "print(time.process_time() - start, threading.active_count(), "
        "[m for m in ('redis', 'rq', 'pydantic', 'pydantic_settings', 'asyncio', 'sqlite3') if m in sys.modules])"
    )

    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}

    def best(module: str) -> tuple[float, str]:
        """The least CPU seconds of four runs, the first of which compiles.

        And the modules that are loaded afterwards.
        """
        tries = [
            subprocess.run(
                [sys.executable, "-c", code.format(module)],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **compiled},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split(" ", 1)
            for _ in range(4)
        ]
        return min((float(seconds), there.strip()) for seconds, there in tries)

    seconds, there = best("birdfeed")
    assert there == "1 []"
    # It takes about half of it (a third of that is msgspec); a bound in milliseconds would depend on the machine.
    assert seconds < best("redis")[0] * 0.8
