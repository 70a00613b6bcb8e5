"""`--track` on the command line: what is refused before anything starts, and trials that an ended sweep has already."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

import forage
from pasture.errors import InputError
from pasture.run_folder import RunFolder


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which no optional package is installed."""
    found = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name in ("wandb", "mlflow", "tensorboardX") else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)


@pytest.mark.usefixtures("without_packages")
@pytest.mark.parametrize(
    ("tracker", "package"), [("wandb", "wandb"), ("mlflow", "mlflow"), ("tensorboard", "tensorboardX")]
)
def test_a_missing_package_is_named_with_its_extra(
    shell: Any, paddocks: Path, tmp_path: Path, tracker: str, package: str
) -> None:
    said = shell("sweep", paddocks, "--runs", tmp_path / "runs", "--track", "csv", "--track", tracker)
    line = f"forage: --track {tracker}: needs the package {package}; pip install 'pasture-forage[trackers]'\n"
    assert (said.status, said.out, said.err) == (2, "", line)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["neptune"], "--track neptune: no such tracker; expected tensorboard, wandb, mlflow, csv or none"),
        (["none", "csv"], "--track none: cannot be given with another tracker; give one or the other"),
    ],
)
def test_odd_trackers(shell: Any, swept: RunFolder, words: list[str], line: str) -> None:
    options = [part for word in words for part in ("--track", word)]
    said = shell("resume", swept, *options)
    assert (said.status, said.err) == (2, f"forage: {line}\n")


def test_an_odd_tracker_of_the_python_api(paddocks: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--track neptune: expected 'tensorboard', 'wandb', 'mlflow' or 'csv'"):
        forage.launch(paddocks, runs=tmp_path / "runs", track=["neptune"])  # type: ignore[list-item]


def test_without_a_login_nothing_is_sent(
    shell: Any, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.login", lambda prompt: prompt)
    said = shell("sweep", paddocks, "--runs", tmp_path / "runs", "--track", "wandb")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith("forage: --track wandb: no login on this machine; run `wandb login`")


def test_trackers_that_need_a_local_folder_say_so_for_an_object_store(
    shell: Any, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("tune.sweep._check_unused", lambda run: None)  # asks the store
    runs = "s3://bucket/runs?endpoint_override=127.0.0.1:9"
    said = shell("sweep", paddocks, "--runs", runs, "--name", "a", "--track", "tensorboard")
    assert (said.status, "writes to local run directories only" in said.err) == (2, True), said.err
    said = shell("sweep", paddocks, "--runs", runs, "--name", "a", "--track", "mlflow")
    assert (said.status, "set MLFLOW_TRACKING_URI" in said.err) == (2, True), said.err


@pytest.mark.heavy
def test_resume_of_an_ended_sweep_tracks_the_trials_that_it_has(shell: Any, swept: RunFolder) -> None:
    said = shell("resume", swept, "--track", "csv", "--json")
    assert said.status == 0, said.err
    assert swept.trackers.names() == []
    assert (swept.trackers / "csv").names() == [f"t000{i}.csv" for i in range(4)], "t0004 has no epoch"
    plan = yaml.safe_load(Path(f"{swept}/sweep.yaml").read_bytes())
    assert plan["track"] == ["csv"]
    forage.resume(str(swept), track=["tensorboard"])
    assert len(list(Path(swept.trackers.path).glob("tensorboard/*/events*"))) == 5
    shell("resume", swept, "--track", "none")
    assert yaml.safe_load(Path(f"{swept}/sweep.yaml").read_bytes())["track"] == []
