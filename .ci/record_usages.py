"""Record tests/data/sdk_usage.json again: usage objects of real packages, as birdfeed's producer sends them.

    make recordings

Each group of packages is installed, newest versions, into an environment of its own in a temporary folder; the objects
are built there by tests/support/pricing/record.py. The tests read only the file.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
OUT: Final = ROOT / "tests" / "data" / "sdk_usage.json"
#: What birdfeed's producer itself needs.
OURS: Final = ("msgspec", "orjson", "pydantic", "pydantic-settings", "redis", "uuid-utils")
GROUPS: Final = (
    ("openai", "anthropic", "google-genai"),
    ("litellm",),
    ("langchain-core", "langchain-openai", "langchain-anthropic"),
    ("pydantic-ai-slim",),
    ("cohere",),
    ("xai-sdk",),
)


def recorded(packages: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Versions and usages of a group."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    subprocess.run([*pip, *packages, *OURS], check=True)
    path = os.pathsep.join(map(str, (ROOT, ROOT / "producer", ROOT / "schemas")))
    done = subprocess.run(
        [str(python), "-m", "tests.support.pricing.record", *packages],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Record every group, and write the file."""
    versions: dict[str, str] = {}
    usages: dict[str, list[Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for packages in GROUPS:
            found = recorded(packages, Path(folder) / packages[0])
            versions |= found["versions"]
            usages |= found["usages"]
            print(", ".join(f"{name} {found['versions'][name]}" for name in packages), file=sys.stderr)
    text = json.dumps({"versions": versions, "usages": usages}, indent=1)
    OUT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
