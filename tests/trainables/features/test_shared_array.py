"""Arrays that several processes compute together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import trainables
from pasture.files import Folder
from trainables.features.shared_array import shared_array
from trainables.images.array_cache import array_path

KEY = {"dataset": "d"}
SHAPE = (100, 3)  # seven blocks of at most 16 rows

# Computes rows equal to their number, slowly, and writes a line "<process> <first row>" to LOG for each block.
WORKER = """
import os, sys, time
from pathlib import Path
import numpy as np
from pasture.files import Folder
from trainables.features.shared_array import shared_array
log, shared, ready, workers = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
def compute(rows):
    time.sleep(0.2)
    with open(log, "a") as stream:
        stream.write(f"{os.getpid()} {rows.start}\\n")
    return np.repeat(np.arange(rows.start, rows.stop)[:, None], 3, axis=1)
folder = Folder.at(shared) if shared else None
ready.mkdir(exist_ok=True)
(ready / str(os.getpid())).touch()
while len(list(ready.iterdir())) < workers:  # a process that starts later than another finds no work left
    time.sleep(0.02)
array = shared_array("things", {"dataset": "d"}, (100, 3), np.float16, compute, folder)
assert (array == np.arange(100)[:, None]).all()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _rows(rows: range) -> np.ndarray:
    return np.repeat(np.arange(rows.start, rows.stop)[:, None], 3, axis=1)


def _never(rows: range) -> np.ndarray:
    raise AssertionError("computed again")


def _start(tmp_path: Path, shared: str = "", cache: str = "cache", workers: int = 1) -> subprocess.Popen[bytes]:
    """A process that needs the array; it begins when as many such processes as `workers` are there."""
    here = str(Path(trainables.__file__).parent.parent)
    environment = os.environ | {"FORAGE_CACHE": str(tmp_path / cache)}
    words = [str(tmp_path / "log"), shared, str(tmp_path / "ready"), str(workers)]
    return subprocess.Popen([sys.executable, "-c", WORKER, *words], cwd=here, env=environment)


def _log(tmp_path: Path) -> list[tuple[str, int]]:
    log = tmp_path / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def test_it_is_computed_once_and_leaves_no_blocks(root: Path) -> None:
    told: list[tuple[str, int, int]] = []
    watch = lambda *progress: told.append(progress)  # noqa: E731
    array = shared_array("things", KEY, SHAPE, np.float16, _rows, watch=watch)
    assert np.array_equal(array, _rows(range(100)).astype(np.float16))
    assert told[-1] == ("features", 100, 100)
    assert np.array_equal(shared_array("things", KEY, SHAPE, np.float16, _never), array)
    assert not list(root.rglob("*.blocks"))


@pytest.mark.heavy
@pytest.mark.parametrize("nodes", [False, True], ids=["one node", "two nodes"])
def test_processes_share_the_work(tmp_path: Path, nodes: bool) -> None:
    shared = str(tmp_path / "run/features") if nodes else ""
    caches = ["cache", "other cache" if nodes else "cache"]
    workers = [_start(tmp_path, shared, cache, workers=2) for cache in caches]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    log = _log(tmp_path)
    assert {row for _, row in log} == set(range(0, 100, 16)), "a block was never computed"
    assert len(log) <= 7 + 1, "blocks that were there were computed again"
    assert len({process for process, _ in log}) == 2, "one did it all"


@pytest.mark.heavy
def test_who_is_killed_loses_one_block_at_most(tmp_path: Path) -> None:
    worker = _start(tmp_path)
    deadline = time.monotonic() + 60
    while len(_log(tmp_path)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    before = len(_log(tmp_path))
    assert _start(tmp_path).wait(timeout=120) == 0
    assert len(_log(tmp_path)) - before <= 7 - before + 1


def test_a_damaged_block_is_computed_again(tmp_path: Path) -> None:
    blocks = Folder.at(tmp_path / "run") / array_path("things", KEY).stem
    blocks.write("00000000.npy", b"no array")
    array = shared_array("things", KEY, SHAPE, np.float16, _rows, Folder.at(tmp_path / "run"))
    assert np.array_equal(array, _rows(range(100)).astype(np.float16))
