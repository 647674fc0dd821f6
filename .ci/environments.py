"""Fresh virtual environments and commands, for the scripts beside this one."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
RUN_LOCK: Final = ROOT / "requirements" / "run.txt"


def run(*command: str | Path, **options: object) -> str:
    """Run a command and return its output; exit with all its output if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return str(done.stdout)


def pip(bin_folder: Path, *arguments: str | Path) -> str:
    """An environment's own pip."""
    return run(bin_folder / "python", "-m", "pip", "--disable-pip-version-check", *arguments)


def new_environment(folder: Path) -> Path:
    """A new virtual environment; returns its bin folder."""
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin"


def install_locked(bin_folder: Path, wheel: Path) -> None:
    """Install what workers and a local set-up need, in the locked versions, and the wheel; nothing is resolved."""
    pip(bin_folder, "install", "--quiet", "--retries", "10", "--no-deps", "--require-hashes", "-r", RUN_LOCK)
    pip(bin_folder, "install", "--quiet", "--no-deps", wheel)
    pip(bin_folder, "check")


def locked_versions() -> dict[str, str]:
    """Package -> its lines in the lock, as constraints: without hashes, and without extras, which pip refuses there."""
    lines = re.findall(
        r"^([a-z0-9-]+)(?:\[[^\]]+\])?(==[^\s\\]+(?: ;[^\\\n]+)?)", RUN_LOCK.read_text(), flags=re.MULTILINE
    )
    found: dict[str, str] = {}
    for name, pin in lines:
        found[name] = f"{found[name]}\n{name}{pin}" if name in found else f"{name}{pin}"
    return found
