"""Build and check a release: sdist, wheel, SBOM (CycloneDX), constraints file and checksums.

Usage: release.py FOLDER. SOURCE_DATE_EPOCH (seconds) is the time of all files in the archives, so the same commit gives
the same bytes. `make release` uses the last commit's time, and runs check_wheel.py afterwards.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from environments import ROOT, install_locked, locked_versions, new_environment, run
from packaging.metadata import Metadata

#: Folder in the repository -> the import package in it that the wheel holds.
PACKAGES = {
    "schemas": "birdfeed_schemas",
    "producer": "birdfeed",
    "worker": "birdfeed_worker",
    "sandbox": "birdfeed_sandbox",
    "cli": "birdfeed_cli",
}


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build an "sdist" or a "wheel" with the locked backend; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", folder, source)
    (built,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


def check_metadata(text: bytes, place: str) -> str:
    """Check that an index accepts the core metadata (names, versions, URLs, licence, README's type); returns the
    version.

    Raises:
        ExceptionGroup: With one error per field that is not valid.
    """
    metadata = Metadata.from_email(text, validate=True)
    assert metadata.description_content_type == "text/markdown", place
    assert metadata.description, place
    return str(metadata.version)


def source_files() -> set[str]:
    """The source files that the wheel must contain: all files in the import packages except Python's caches."""
    found = set()
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(str(path.relative_to(ROOT / folder)))
    return found


def check_wheel(wheel: Path) -> str:
    """Check that the wheel contains exactly the sources; returns the version."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        info = metadata.removesuffix("METADATA")
        inside = {name for name in names if not name.startswith(info)}
        assert inside == source_files(), f"not alike in sources and wheel: {inside ^ source_files()}"
        assert f"{info}licenses/LICENSE" in names, sorted(names)
        return check_metadata(archive.read(metadata), wheel.name)


def check_sdist(sdist: Path, wheel: Path, work: Path) -> None:
    """Check the sdist's metadata, and that the wheel built from it equals the one built from the repository, byte by
    byte.
    """
    run("tar", "-xzf", sdist, "-C", work)
    (unpacked,) = work.iterdir()
    check_metadata((unpacked / "PKG-INFO").read_bytes(), sdist.name)
    again = build("wheel", unpacked, work / "again")
    assert again.name == wheel.name, again
    assert again.read_bytes() == wheel.read_bytes(), f"{sdist.name} builds another {wheel.name}"


def bill_of_materials(wheel: Path, work: Path) -> dict[str, Any]:
    """CycloneDX of all packages that the wheel and its extras install, from an environment of the locked versions.

    What is in the environment for other reasons (pip, the build backend) is left out.
    """
    bin_folder = new_environment(work / "venv")
    install_locked(bin_folder, wheel)
    form = ("--spec-version", "1.6", "--output-reproducible", "--output-format", "JSON")
    out = run(sys.executable, "-m", "cyclonedx_py", "environment", *form, bin_folder / "python")
    bom: dict[str, Any] = json.loads(out)
    requires = {entry["ref"]: entry.get("dependsOn", []) for entry in bom["dependencies"]}
    components = {component["bom-ref"]: component for component in bom["components"]}
    (root,) = (ref for ref, component in components.items() if component["name"] == "birdfeed")
    reached, to_visit = {root}, [root]
    while to_visit:
        new = set(requires.get(to_visit.pop(), [])) - reached
        reached |= new
        to_visit += new
    bom["metadata"]["component"] = components[root] | {"type": "application"}
    # The path of the wheel on the building machine is not published.
    bom["metadata"]["component"].pop("externalReferences", None)
    bom["components"] = [component for ref, component in components.items() if ref in reached - {root}]
    bom["dependencies"] = [entry for entry in bom["dependencies"] if entry["ref"] in reached]
    errors = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom))
    assert errors is None, errors
    return bom


def reminders(version: str) -> list[str]:
    """What a person has to decide or do."""
    found = []
    if re.search(rf"^## \[{re.escape(version)}\] - Unreleased", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE):
        found.append(f"CHANGELOG.md calls {version} unreleased; put the date there")
    if ".example/" in (ROOT / "pyproject.toml").read_text():
        found.append("the URLs in pyproject.toml lead nowhere; put the repository's there")
    return found


def main() -> None:
    """Build into the folder, which must be empty or new."""
    folder = Path(sys.argv[1]).resolve()
    if "SOURCE_DATE_EPOCH" not in os.environ:
        sys.exit("SOURCE_DATE_EPOCH is not set; `make release` takes the last commit's time")
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty")
    sdist, wheel = build("sdist", ROOT, folder), build("wheel", ROOT, folder)
    version = check_wheel(wheel)
    with tempfile.TemporaryDirectory(prefix="birdfeed-release-") as temporary:
        work = Path(temporary)
        (work / "sdist").mkdir()
        check_sdist(sdist, wheel, work / "sdist")
        bom = bill_of_materials(wheel, work)
    sbom = folder / f"birdfeed-{version}.cdx.json"
    sbom.write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")
    constraints = folder / f"birdfeed-{version}-constraints.txt"
    constraints.write_text("\n".join(locked_versions().values()) + "\n")
    files = sorted((sdist, wheel, sbom, constraints))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums)
    print(sums, end="")
    for reminder in reminders(version):
        print(f"before you publish these files: {reminder}")


if __name__ == "__main__":
    main()
