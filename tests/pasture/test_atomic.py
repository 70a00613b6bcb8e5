"""Files and folders appear whole or not at all. (Files on any filesystem: see test_files.)"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pasture.atomic import atomic_file, atomic_folder
from pasture.errors import InputError, StorageError


@pytest.mark.parametrize("fixed_name", [False, True])
def test_a_file_replaces_the_one_before_only_when_complete(tmp_path: Path, fixed_name: bool) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(b"old")

    def write(fails: bool) -> None:
        with atomic_file(path, fixed_name=fixed_name) as temporary:
            temporary.write_bytes(b"new")
            assert path.read_bytes() == b"old"
            if fails:
                raise KeyError

    with pytest.raises(KeyError):
        write(fails=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.npy": b"old"}
    write(fails=False)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.npy": b"new"}


def test_with_a_fixed_name_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "a", fixed_name=True) as left:
        left.write_bytes(b"old")
    left.write_bytes(b"left by a killed process")
    with atomic_file(tmp_path / "a", fixed_name=True) as temporary:
        assert temporary == left
        assert not left.exists()
        temporary.write_bytes(b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("fixed_name", [False, True])
def test_a_folder_appears_only_when_complete(tmp_path: Path, fixed_name: bool) -> None:
    out = tmp_path / "new" / "data"

    def fill(fails: bool) -> None:
        with atomic_folder(out, fixed_name=fixed_name) as temporary:
            (temporary / "a").write_text("x")
            assert not out.exists()
            if fails:
                raise KeyError

    with pytest.raises(KeyError):
        fill(fails=True)
    assert not any((tmp_path / "new").iterdir())
    fill(fails=False)
    assert [p.name for p in (tmp_path / "new").rglob("*")] == ["data", "a"]


def test_an_input_that_cannot_be_read_is_named_and_not_the_output(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^cannot read .*missing\.jpg: No such file"), atomic_folder(tmp_path / "out"):
        (tmp_path / "missing.jpg").read_bytes()


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StorageError, match="out: No space left on device; make space"), atomic_folder(tmp_path / "out"):
        raise full
    assert not any(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(InputError, match="exists: a new or empty folder expected"), atomic_folder(tmp_path):
        pytest.fail("the body must not run")
