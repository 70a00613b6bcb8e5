"""The store under several processes, killed builders and bad disks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import trainables
from pasture.errors import InputError, JobError
from trainables.images.array_cache import array_path, cache_limit, cache_root, cached_array, entries

KEY = {"dataset": "d", "size": 3}

# Writes a line to LOG for every build, says READY in the middle of it, and goes on when GO exists.
BUILDER = """
import sys, time
from pathlib import Path
import numpy as np
from trainables.images.array_cache import cached_array
log, ready, go = map(Path, sys.argv[1:])
def fill(array):
    with log.open("a") as stream:
        stream.write("built\\n")
    array[:2] = 7
    ready.touch()
    while not go.exists():
        time.sleep(0.02)
    array[2:] = 7
print(cached_array("things", {"dataset": "d", "size": 3}, (4,), np.int32, fill).tolist())
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _sevens(array: np.ndarray) -> None:
    array[:] = 7


def _never(array: np.ndarray) -> None:
    raise AssertionError("built again")


def _start(tmp_path: Path) -> subprocess.Popen[str]:
    arguments = [str(tmp_path / name) for name in ("log", "ready", "go")]
    here = str(Path(trainables.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, *arguments], stdout=subprocess.PIPE, text=True, cwd=here, env=dict(os.environ)
    )


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_root_is_the_environment_variable_or_home(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_root() == root
    for unset in ("", None):
        monkeypatch.setenv("FORAGE_CACHE", unset) if unset is not None else monkeypatch.delenv("FORAGE_CACHE")
        monkeypatch.setenv("HOME", str(root / "home"))
        assert cache_root() == root / "home/.cache/forage"


def test_it_is_built_once_and_read_back(root: Path) -> None:
    first = cached_array("things", KEY, (2, 2), np.float16, _sevens)
    again = cached_array("things", dict(reversed(KEY.items())), (2, 2), np.float16, _never)
    for array in (first, again):
        assert array.dtype == np.float16
        assert array.tolist() == [[7, 7], [7, 7]]
        assert isinstance(array, np.memmap)


def test_it_is_read_only(root: Path) -> None:
    array = cached_array("things", KEY, (2,), np.int32, _sevens)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_every_part_of_the_key_names_another_file(root: Path) -> None:
    for kind, key in (("things", KEY), ("others", KEY), ("things", KEY | {"size": 4}), ("things", KEY | {"more": 0})):
        value = len(list(root.rglob("*.npy")))
        array = cached_array(kind, key, (1,), np.int32, lambda a, value=value: a.fill(value))  # type: ignore[misc]
        assert array.tolist() == [value]
    assert len(list(root.rglob("*.npy"))) == 4


def test_a_failed_build_leaves_no_array(root: Path) -> None:
    def fail(array: np.ndarray) -> None:
        array[0] = 1
        raise InputError("bad picture")

    with pytest.raises(InputError, match="bad picture"):
        cached_array("things", KEY, (2,), np.int32, fail)
    assert not list(root.rglob("*.npy"))
    assert cached_array("things", KEY, (2,), np.int32, _sevens).tolist() == [7, 7]


def test_an_unwritable_root_is_a_job_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(JobError, match="FORAGE_CACHE") as caught:
        cached_array("things", KEY, (2,), np.int32, _sevens)
    assert str(tmp_path / "file" / "cache" / "things") in str(caught.value)


@pytest.mark.heavy
def test_two_processes_build_once(root: Path, tmp_path: Path) -> None:
    processes = [_start(tmp_path), _start(tmp_path)]
    _wait_for(tmp_path / "ready")
    assert not list(root.rglob("*.npy")), "half an array is visible"
    time.sleep(1)  # long enough for the other to come and find the lock taken, or wrongly to build
    (tmp_path / "go").touch()
    outputs = [p.communicate(timeout=60)[0] for p in processes]
    assert outputs == ["[7, 7, 7, 7]\n"] * 2
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_builder_leaves_nothing_and_the_next_builds(root: Path, tmp_path: Path) -> None:
    process = _start(tmp_path)
    _wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not list(root.rglob("*.npy"))
    # Of another size than what the dead one left: nothing of that may be reused.
    assert cached_array("things", KEY, (4,), np.int32, lambda a: a.fill(9)).tolist() == [9] * 4
    assert cached_array("things", KEY, (4,), np.int32, _never).tolist() == [9] * 4


def _thousand(value: int, root: Path) -> np.ndarray:
    """An array of 1,000 bytes beside its header."""
    return cached_array("things", {"value": value}, (1000,), np.uint8, lambda a: a.fill(value))


def _held(root: Path) -> set[int]:
    return {entry.key["value"] for entry in entries()}


def test_beyond_the_limit_the_longest_unused_leaves_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE_LIMIT", str(3.9e-6))  # three arrays of 1,128 bytes
    for value in range(3):
        _thousand(value, root)
        os.utime(array_path("things", {"value": value}), (value, value))
    kept_open = _thousand(1, root)  # used again: now the last one used
    oldest = array_path("things", {"value": 0})
    _thousand(3, root)
    assert _held(root) == {1, 2, 3}
    assert not oldest.exists()
    assert not oldest.with_suffix(".json").exists()
    _thousand(4, root)
    assert _held(root) == {1, 3, 4}
    _thousand(5, root)
    _thousand(6, root)
    assert _held(root) == {4, 5, 6}
    assert set(kept_open.tolist()) == {1}, "who has an array open keeps it"


def test_an_array_larger_than_the_limit_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _thousand(0, root)
    monkeypatch.setenv("FORAGE_CACHE_LIMIT", str(0.9e-6))
    with pytest.raises(JobError, match="FORAGE_CACHE_LIMIT"):
        _thousand(1, root)
    assert _held(root) == {0}, "what is there was deleted for nothing"


@pytest.mark.parametrize("text", ["many", "0", "-3", "nan"])
def test_a_limit_that_is_none_is_an_input_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE_LIMIT", text)
    with pytest.raises(InputError, match=r"FORAGE_CACHE_LIMIT.*such as 20"):
        cache_limit()


def test_what_a_damaged_file_held_is_computed_again(root: Path) -> None:
    cached_array("things", KEY, (4,), np.int32, _sevens)
    path = array_path("things", KEY)
    for content in (path.read_bytes()[:-3], b"", b"no array"):
        path.write_bytes(content)
        assert cached_array("things", KEY, (4,), np.int32, _sevens).tolist() == [7] * 4


def test_a_full_disk_is_an_error_not_a_killed_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(JobError, match="No space left on device; make space"):
        cached_array("things", KEY, (4,), np.int32, _never)
