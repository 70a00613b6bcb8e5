"""A disk that is really full: a small tmpfs, which only root can mount."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pasture.dataset import read_train
from pasture.errors import JobError
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger
from tune.records.lock import exclusive_lock


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB."""
    disk = tmp_path / "small"
    disk.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Write until nothing more fits."""
    ballast = disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)
    return ballast


def test_every_write_fails_in_one_line_leaves_all_as_it_was_and_works_once_there_is_space(
    small: Path, data: Path, report: Callable[..., dict[str, Any]]
) -> None:
    run = RunFolder(small / "run")
    dataset = read_train(data)
    run.write_sweep({"trials": 1})
    run.write_truth(dataset)
    ledger = Ledger(run)
    record = ledger.propose({}, Recipe())
    record.report(report(1, 0.5))
    ledger.write(record)
    ledger.write_table()
    ballast = fill(small)
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file() and path != ballast}
    writes: list[Callable[[], object]] = [
        lambda: run.write_sweep({"trials": 2}),
        lambda: run.write_truth(dataset),
        lambda: ledger.write(record),
        ledger.write_table,
        lambda: run.checkpoints.write("t0000.pt", b"state"),
        lambda: run.weights("t0000").write("fold0.safetensors", b"weights"),
        lambda: run.oof.write("t0000.parquet", b"oof"),
        lambda: run.folder.write("report.html", b"page"),
    ]
    for write in writes:
        with pytest.raises(JobError, match=r"cannot write .*: No space left on device; make space") as caught:
            write()
        assert "\n" not in str(caught.value)
    after = {path: path.read_bytes() for path in small.rglob("*") if path.is_file() and path != ballast}
    assert after == before
    assert Ledger(run).records == ledger.records
    ballast.unlink()
    for write in writes:
        write()
    assert run.read_sweep() == {"trials": 2}
    with exclusive_lock(run):
        assert Ledger(run).records == ledger.records
