"""Ownership of the spool's directory and files: only their owner has access, and no other user's are used."""

import os
import stat
from contextlib import closing
from pathlib import Path

import pytest
from birdfeed.encoding.batch import PackedBatch, pack
from birdfeed.errors import SpoolError
from birdfeed.spool.location import spool_path
from birdfeed.spool.store import Spool

from tests.support.producer.fakes import options


def batch() -> PackedBatch:
    return pack("text_generation", [b"{}"], compression=0)


def test_the_directory_and_the_file_are_the_users_own(tmp_path: Path) -> None:
    """Modes 0700 and 0600, with any umask."""
    before = os.umask(0)
    try:
        path = spool_path(options(spool_dir=tmp_path / "a" / "b"))
        with closing(Spool(path, max_bytes=10**6)) as spool:
            spool.add([batch()])
            modes = {found.name: stat.S_IMODE(found.stat().st_mode) for found in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert set(modes) == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert set(modes.values()) == {0o600}


def test_in_a_shared_directory_the_spool_has_its_own(tmp_path: Path) -> None:
    """In a container's volume (a Kubernetes emptyDir) to which all users may write."""
    tmp_path.chmod(0o777)
    path = spool_path(options(spool_dir=tmp_path))
    with closing(Spool(path, max_bytes=10**6)) as spool:
        assert spool.check() == path
        spool.add([batch()])

    assert path.parent == tmp_path / f"birdfeed-{os.geteuid()}"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("there", [[], ["spool-v1-older.sqlite3"]])
def test_an_open_directory_with_nothing_else_in_it_is_closed(tmp_path: Path, there: list[str]) -> None:
    """Created by hand, or by an older version; its files too."""
    folder = tmp_path / "spool"
    folder.mkdir()
    folder.chmod(0o755)
    for name in there:
        (folder / name).touch(0o644)
    path = spool_path(options(spool_dir=folder))
    path.touch(0o644)
    with closing(Spool(path, max_bytes=10**6)) as spool:
        spool.add([batch()])

    assert path.parent == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_open_directory_with_other_files_is_not_changed(tmp_path: Path) -> None:
    """Other users may need its files: the spool is in a closed directory inside, and is found there again."""
    folder = tmp_path / "app"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "readme.txt").touch()
    path = spool_path(options(spool_dir=folder))
    with closing(Spool(path, max_bytes=10**6)) as spool:
        spool.add([batch()])

    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert path.parent == folder / f"birdfeed-{os.geteuid()}"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert spool_path(options(spool_dir=folder)) == path


def test_a_link_in_a_shared_directory_is_refused(tmp_path: Path) -> None:
    """Another user may have made it, so that one of our folders would be filled or closed."""
    shared, private = tmp_path / "tmp", tmp_path / "home"
    shared.mkdir()
    shared.chmod(0o777)
    private.mkdir()
    private.chmod(0o755)
    (shared / f"birdfeed-{os.geteuid()}").symlink_to(private)
    with pytest.raises(SpoolError, match="is a link"):
        Spool(spool_path(options(spool_dir=shared)), max_bytes=10**6).check()

    assert list(private.iterdir()) == []
    assert stat.S_IMODE(private.stat().st_mode) == 0o755


def test_a_directory_that_another_user_made_is_refused(tmp_path: Path) -> None:
    """Its owner could read and change what is written there."""
    tmp_path.chmod(0o777)
    path = spool_path(options(spool_dir=tmp_path))
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(SpoolError, match="every user can write to it"):
        Spool(path, max_bytes=10**6).check()
