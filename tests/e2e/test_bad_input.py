"""Wrong use of the command: one line on standard error, the right exit status, nothing left behind.

All of it is refused before Ray starts, and run in this process as the console script runs it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from pasture.run_folder import RunFolder
from tests.e2e.conftest import Refused


@pytest.fixture
def sweep(refused: Refused, data: Path, space_file: Path, tmp_path: Path) -> Refused:
    """`sweep(*words, data=..., runs=..., status=2)`: a sweep that is refused and leaves no run directory."""

    def run(*words: object, data: object = data, runs: Path = tmp_path / "runs", status: int = 2) -> str:
        line = refused("sweep", data, "--space", space_file, "--runs", runs, "--name", "r", *words, status=status)
        assert not runs.is_dir()
        return line

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--space", "defualt"], "no space 'defualt': neither a file nor one of the shipped ones (default, demo"),
        (["--set", "head.droput=0.3"], "unknown recipe field 'head.droput'; did you mean head.dropout"),
        (["--set", "head.dropout=3"], "head.dropout=3"),
        (["--set", "head.dropout"], "--set 'head.dropout': expected field=value"),
        (["--set", "head.dropout=["], "--set 'head.dropout=[': "),
        (["--set", "backbone.name=resnet19"], "backbone.name='resnet19': timm has no such model; similar names: "),
        (["--set", "backbone.weights=hub"], "backbone.weights=hub: "),
        (["--set", "validation.folds=40"], "needs at least 40 sampling dates, the data have "),
        (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray cluster answers there"),
        (["--name", "a/b"], "--name 'a/b': expected a name, not a path"),
    ],
)
def test_a_sweep_that_cannot_be(sweep: Refused, words: list[str], message: str) -> None:
    assert message in sweep(*words)


def test_no_data(sweep: Refused, tmp_path: Path) -> None:
    assert "no such data folder" in sweep(data=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "train.csv: no such file" in sweep(data=tmp_path / "empty")


def test_a_truncated_picture(sweep: Refused, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    picture = min((tmp_path / "data" / "train").iterdir())
    picture.write_bytes(picture.read_bytes()[:700])
    assert f"{picture.name}: not a readable picture" in sweep(data=tmp_path / "data")


def test_a_runs_folder_that_cannot_be_written(sweep: Refused, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "file is not a directory; choose another place" in sweep(runs=tmp_path / "file")


def test_a_run_that_exists_and_a_folder_that_is_none(refused: Refused, data: Path, tmp_path: Path) -> None:
    words = ["sweep", data, "--runs", tmp_path, "--name", "r"]
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "notes.txt").touch()
    assert "not empty and not a run directory; choose another --name" in refused(*words)
    RunFolder(tmp_path / "r").write_sweep({})
    assert f"this run exists; choose another --name, or go on with `forage resume {tmp_path}/r`" in refused(*words)


@pytest.mark.parametrize("command", ["resume", "status"])
def test_what_is_no_run_directory(refused: Refused, command: str, tmp_path: Path) -> None:
    assert "not a run directory; expected one that `forage sweep`" in refused(command, tmp_path)
    (tmp_path / "sweep.yaml").write_text("trials: 3\n")
    assert "sweep.yaml: damaged, or edited by hand" in refused(command, tmp_path)
    RunFolder(tmp_path).write_sweep({"trials": 3})
    assert "sweep.yaml: damaged, or of another version" in refused(command, tmp_path)


def test_a_run_directory_in_use(refused: Refused, tmp_path: Path) -> None:
    plan = {"data": "d", "space": {}, "trials": 1, "search": "random", "seed": 0, "fingerprint": "f", "versions": {}}
    RunFolder(tmp_path).write_sweep(plan)
    with FileLock(tmp_path / ".driver.lock"):
        assert "another forage is at work in this run directory" in refused("resume", tmp_path)
