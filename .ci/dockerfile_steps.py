"""Run the steps of deploy/docker/Dockerfile in an empty folder, as far as possible without a container runtime.

COPY takes what git tracks, RUN runs with an empty environment, and /opt/birdfeed and /src are folders below the one
given. Then the image's command is tried: its version, and that it refuses to start without settings.

    python .ci/dockerfile_steps.py FOLDER
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"


def instructions(text: str) -> list[tuple[str, str]]:
    """(Word, rest) of each instruction, continued lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = re.sub(r"\\\n", " ", lines)
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word]


def copy(names: list[str], workdir: Path) -> None:
    """COPY: files that git tracks, from the repository to the working directory."""
    *sources, target = names
    for source in sources:
        found = subprocess.run(["git", "ls-files", "--", source], cwd=ROOT, capture_output=True, text=True, check=True)
        tracked = found.stdout.splitlines()
        if not tracked:
            raise SystemExit(f"COPY {source}: git tracks no such file")
        for name in tracked:
            under = Path(name).relative_to(source) if (ROOT / source).is_dir() else Path()
            to = workdir / target / (under if (ROOT / source).is_dir() else (name if target == "./" else ""))
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to)


def main() -> int:
    """Exit code 0 if every step works."""
    root = Path(sys.argv[1]).resolve()
    workdir, places = root / "src", {"/opt/birdfeed": str(root / "opt" / "birdfeed")}
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(root)}
    environment |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    stage = 0
    for word, rest in instructions(DOCKERFILE.read_text()):
        if word == "FROM":
            stage += 1
        elif word == "COPY" and stage == 1:
            copy(rest.split(), workdir)
        elif word == "RUN":
            for place, here in places.items():
                rest = rest.replace(place, here)
            subprocess.run(["/bin/sh", "-euc", rest], cwd=workdir, env=environment, check=True)
    command = str(root / "opt" / "birdfeed" / ".venv" / "bin" / "birdfeed")
    empty = {"PATH": "/usr/bin:/bin"}
    print(subprocess.run([command, "--version"], cwd="/", env=empty, capture_output=True, text=True, check=True).stdout)
    refused = subprocess.run([command, "worker"], cwd="/", env=empty, capture_output=True, text=True, check=False)
    print(refused.stderr)
    return 0 if refused.returncode == 2 else 1


if __name__ == "__main__":
    sys.exit(main())
