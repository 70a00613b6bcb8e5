"""Workers killed in every phase, full disks, a power loss and a moved run: each sweep ends like an undisturbed one.

The moments are exact: see faults/sitecustomize.py. Slow: a dozen sessions of Ray.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pasture.run_folder import RunFolder
from tests.e2e.conftest import Refused

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TRIALS = 3
PHASES = ["image cache", "feature bank", "epoch", "checkpoint", "oof"]
Forage = Callable[..., subprocess.CompletedProcess[str]]
Records = Callable[[Path], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def options(space_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """Options of a sweep with one trial at a time, some with a frozen backbone and some with a trained one."""
    space = yaml.safe_load(space_file.read_text())
    del space["base"]["backbone"]["tuning"]
    space["search"]["backbone.tuning"] = {"choice": ["frozen", "full"]}
    path = tmp_path_factory.mktemp("space") / "both.yaml"
    path.write_text(yaml.safe_dump(space))
    # Which trials there are, and that all of them are complete.
    fixed = ["--no-start", "--pruner", "none", "--seed", 23]
    return ["--space", path, "--trials", TRIALS, "--cpus-per-trial", os.cpu_count(), *fixed]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """`faults(kill=[...], fill=[...], disk=...)`: environment variables that make these faults happen."""

    def environment(**asked: Any) -> dict[str, str]:
        plan = {key: str(v) if isinstance(v, Path) else v for key, v in asked.items()}
        plan.setdefault("marks", str(tmp_path_factory.mktemp("marks")))
        path = [str(Path(__file__).parent / "faults"), os.environ.get("PYTHONPATH", "")]
        return {"FORAGE_FAULTS": json.dumps(plan), "PYTHONPATH": os.pathsep.join(filter(None, path))}

    return environment


@pytest.fixture(scope="module")
def facts(records: Records) -> Callable[[Path], dict[str, Any]]:
    """`facts(run)`: everything that must not depend on faults, predictions included."""
    timed = {"seconds", "images_per_second"}

    def read(run: Path) -> dict[str, Any]:
        found = {}
        for name, record in records(run).items():
            curve = [{k: v for k, v in report.items() if k not in timed} for report in record["curve"]]
            oof = RunFolder(run).read_oof(name).predictions if record["status"] == "COMPLETE" else np.empty(0)
            found[name] = [record["params"], record["status"], record["error"], curve, oof.tolist()]
        return found

    return read


@pytest.fixture(scope="module")
def undisturbed(
    forage: Forage,
    data: Path,
    options: list[object],
    facts: Callable[[Path], dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """Facts of a sweep without faults."""
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    said = forage("sweep", data, "--runs", run.parent, "--name", run.name, *options)
    assert said.returncode == 0, said.stderr
    found = facts(run)
    assert len(found) == TRIALS
    # The moments of the faults rely on this: two trials are complete, one of each kind.
    tuning = {name: trial[0]["backbone.tuning"] for name, trial in found.items() if trial[1] == "COMPLETE"}
    assert (tuning["t0000"], tuning["t0002"]) == ("frozen", "full")
    return found


@pytest.fixture(scope="module")
def killed(
    forage: Forage,
    data: Path,
    options: list[object],
    faults: Callable[..., dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """A sweep of one trial whose workers die in every phase: its run directory, the folder of marks, its output.

    With a second trial, that one would report first while a worker is replaced, and ASHA would judge the two in another
    order.
    """
    run, marks = (tmp_path_factory.mktemp(name) / "killed" for name in ("runs", "marks"))
    marks.mkdir()
    words = ["--runs", run.parent, "--name", run.name, "--max-failures", len(PHASES), "--trials", 1, "--json"]
    cache = str(tmp_path_factory.mktemp("cache"))
    env = faults(kill=PHASES, marks=marks)
    return run, marks, forage("sweep", data, *options, *words, timeout=600, FORAGE_CACHE=cache, **env)


@pytest.mark.parametrize("phase", PHASES)
def test_a_worker_was_killed_in_each_phase(killed: tuple[Path, Path, Any], phase: str) -> None:
    _, marks, _ = killed
    pids = [int((marks / phase).read_text()) for phase in PHASES]
    assert pids.count(int((marks / phase).read_text())) == 1  # a process dies once


def test_workers_killed_in_each_phase_change_nothing(
    killed: tuple[Path, Path, Any], undisturbed: dict[str, Any], facts: Callable[[Path], dict[str, Any]]
) -> None:
    run, _, said = killed
    assert said.returncode == 0, said.stderr
    assert "Traceback" not in said.stderr
    assert json.loads(said.stdout)["failed"] == 0
    assert facts(run) == {"t0000": undisturbed["t0000"]}
    assert list((run / "checkpoints").glob("t*")) == []


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """`disk(name)`: a small one, a file system of its own."""
    mounted = []

    def mount(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        words = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)]
        if os.geteuid() or subprocess.run(words, capture_output=True).returncode:
            pytest.skip("only root can mount a disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_sweep_and_it_continues_once_there_is_space(
    disk: Callable[[str], Path],
    forage: Forage,
    data: Path,
    options: list[object],
    faults: Callable[..., dict[str, str]],
    undisturbed: dict[str, Any],
    facts: Callable[[Path], dict[str, Any]],
    records: Records,
) -> None:
    runs, cache = disk("runs"), disk("cache")
    run = runs / "full"
    words: list[object] = ["sweep", data, "--runs", runs, "--name", run.name, *options]
    for moment, full, where in [
        ("cache", cache, f"the cache {cache}/"),
        ("weights", runs, f"{run}/weights/t"),
        ("record", runs, f"{run}/trials/t0002.json"),
    ]:
        before = records(run)
        said = forage(*words, FORAGE_CACHE=str(cache), **faults(fill=[moment], disk=full))
        assert said.returncode == 1, (moment, said.stderr)
        last = said.stderr.splitlines()[-1]
        assert last.startswith(f"forage: cannot write {where}")
        assert "No space left on device; make space" in last
        assert last.endswith(f"; then go on with: forage resume {run}")
        assert "Traceback" not in said.stderr
        after = records(run)
        assert {name: after[name] for name, r in before.items() if r["status"] == "COMPLETE"}.items() <= before.items()
        assert not any(record["status"] == "FAILED" for record in after.values())
        (full / "ballast").unlink()
        words = ["resume", run]
    said = forage(*words, FORAGE_CACHE=str(cache))
    assert said.returncode == 0, said.stderr
    assert facts(run) == undisturbed
    assert list(run.rglob("*.tmp")) == []


@pytest.fixture(scope="module")
def lost(
    start: Callable[..., Any],
    data: Path,
    options: list[object],
    faults: Callable[..., dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with `data` and a run `lost`, whose driver was killed in the middle of writing a record."""
    folder = tmp_path_factory.mktemp("lost")
    shutil.copytree(data, folder / "data")
    words = ["--runs", folder, "--name", "lost"]
    process = start("sweep", folder / "data", *words, *options, **faults(kill=["record"]))
    process.popen.wait(timeout=240)
    process.kill()
    assert process.popen.returncode == -signal.SIGKILL
    return folder


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_moved_copy_whose_newest_files_were_cut_short_by_a_power_loss_is_repaired_and_continues(
    lost: Path,
    forage: Forage,
    refused: Refused,
    undisturbed: dict[str, Any],
    facts: Callable[[Path], dict[str, Any]],
    tmp_path: Path,
) -> None:
    original = content(lost / "lost")
    run, data = shutil.copytree(lost / "lost", tmp_path / "moved"), tmp_path / "data"
    (lost / "data").rename(data)
    plan, checkpoint, oof = run / "sweep.yaml", run / "checkpoints" / "t0002.pt", run / "oof" / "t0000.parquet"
    record = max((run / "trials").glob("t*.json"))
    whole = {path: path.read_bytes() for path in (plan, checkpoint, oof, record)}
    for path, before in whole.items():
        path.write_bytes(before[: len(before) // 2])

    assert f"{plan}: damaged" in refused("resume", run)
    plan.write_bytes(whole[plan])
    assert re.search(f"{record}: damaged record .*; delete it and the trial is proposed anew", refused("resume", run))
    record.unlink()
    assert f"{lost}/data: no such data folder" in refused("resume", run)
    said = forage("resume", run, "--data", data)
    assert said.returncode == 1, said.stderr
    named = f"checkpoint of t0002 is damaged .*; delete {checkpoint} and the trial begins anew; then go on with: "
    assert re.search(named, said.stderr.splitlines()[-1])
    assert "Traceback" not in said.stderr
    checkpoint.unlink()
    said = forage("resume", run)  # it knows by now where the data are
    assert said.returncode == 0, said.stderr
    blended = forage("ensemble", run, "--out", tmp_path / "blend")
    assert blended.returncode == 0, blended.stderr
    assert f"{oof}: damaged" in blended.stderr  # it is left out, with the reason
    oof.write_bytes(whole[oof])
    assert facts(run) == undisturbed
    assert content(lost / "lost") == original
