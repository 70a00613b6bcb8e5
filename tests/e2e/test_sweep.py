"""Sweeps from start to end. Slow: three sessions of Ray."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pasture.dataset import read_train
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder
from pasture.targets import balance_gap
from pasture.verification import verify
from search_spaces.catalogue import load_space
from trainables.recipe.recipe import Recipe
from tune.pruning.pruners import make_pruner
from tune.records.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

TRIALS = 8
EPOCHS = 6
Forage = Callable[..., subprocess.CompletedProcess[str]]
Records = Callable[[Path], dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def sweep(forage: Forage, data: Path, space_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`sweep(name, ...)`: a sweep of eight trials; its run directory and what the command said."""
    runs = tmp_path_factory.mktemp("runs")

    def run(name: str, *words: object, **env: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
        options = ["--runs", runs, "--name", name, "--space", space_file, "--trials", TRIALS, "--json"]
        return runs / name, forage("sweep", data, *options, *words, **env)

    return run


@pytest.fixture(scope="module")
def done(sweep: Callable[..., Any]) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A sweep whose trials run one at a time, on all cores, with two trackers."""
    run, said = sweep("serial", "--cpus-per-trial", os.cpu_count(), "--track", "csv", "--track", "tensorboard")
    assert said.returncode == 0, said.stderr
    return run, said


def test_the_result_is_json_alone_and_status_agrees(done: Any, forage: Forage, records: Records) -> None:
    run, said = done
    summary = json.loads(said.stdout)
    ledger = records(run)
    statuses = [record["status"] for record in ledger.values()]
    complete = {name: r["curve"][-1]["score"] for name, r in ledger.items() if r["status"] == "COMPLETE"}
    best = max(complete, key=lambda name: complete[name])
    assert summary.pop("run") == str(run)
    assert summary == {
        "trials": TRIALS,
        "complete": statuses.count("COMPLETE"),
        "pruned": statuses.count("PRUNED"),
        "failed": 0,
        "running": 0,
        "waiting": 0,
        "best_score": complete[best],
        "best_trial": best,
    }
    assert summary["complete"] + summary["pruned"] == TRIALS
    assert summary["pruned"] > 0
    status = forage("status", run, "--json")
    assert (status.returncode, status.stderr) == (0, "")
    assert {key: json.loads(status.stdout)[key] for key in summary} == summary


def test_progress_is_one_plain_line_a_trial(done: Any) -> None:
    _, said = done
    lines = said.stderr.splitlines()[:TRIALS]
    assert [line.split("  ")[0] for line in lines] == [f"[{i}/{TRIALS}]" for i in range(1, TRIALS + 1)], said.stderr
    assert "\x1b" not in said.stderr


def test_the_run_directory_is_laid_out_as_agreed(done: Any, records: Records) -> None:
    run, _ = done
    ledger = records(run)
    complete = sorted(name for name, record in ledger.items() if record["status"] == "COMPLETE")
    assert sorted(ledger) == [f"t{i:04d}" for i in range(TRIALS)]
    files = {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()} - {".driver.lock", "report.html"}
    files = {file for file in files if not file.startswith("trackers/")}
    assert files == {
        "sweep.yaml",
        "truth.parquet",
        "trials.parquet",
        *(f"trials/{name}.json" for name in ledger),
        *(f"oof/{name}.parquet" for name in complete),
        *(f"epochs/{name}.npz" for name in complete),
        *(f"weights/{name}/fold{fold}.safetensors" for name in complete for fold in range(3)),
    }


def test_every_oof_is_whole_and_is_what_its_trial_scored(done: Any, data: Path, records: Records) -> None:
    run = RunFolder(done[0])
    dataset = read_train(data)
    fingerprint = verify(dataset).fingerprint
    truth = run.read_truth()
    for name, record in records(done[0]).items():
        if record["status"] != "COMPLETE":
            continue
        table = run.read_oof(name)
        assert table.predictions.shape == (24, 8, 5)
        assert sorted(table.image_ids) == sorted(dataset.ids)
        assert set(table.folds) == {0, 1, 2}
        assert balance_gap(table.predictions.reshape(-1, 5)).max() < 1e-3
        assert table.predictions.min() >= 0
        recipe = Recipe.parse(record["recipe"])
        assert table.metadata["recipe_hash"] == recipe.hash
        assert table.metadata["fingerprint"] == fingerprint
        assert table.metadata["trial"] == name
        assert table.metadata["curve"] == record["curve"]
        grams = truth.loc[table.image_ids].drop(columns="date").to_numpy()
        assert weighted_r2(grams, table.mean((0,))) == pytest.approx(record["curve"][-1]["score"], abs=1e-5)
        epochs = run.read_epochs(name)
        assert epochs is not None
        scores = [weighted_r2(grams, epoch) for epoch in epochs]
        assert scores == pytest.approx([report["epoch_score"] for report in record["curve"]], abs=1e-5)
        for fold in range(3):
            with safe_open(done[0] / f"weights/{name}/fold{fold}.safetensors", "np") as weights:
                assert weights.metadata()["recipe_hash"] == recipe.hash
                assert weights.keys()


def test_trackers_have_every_epoch(done: Any, records: Records) -> None:
    for name, record in records(done[0]).items():
        curve = {report["epoch"]: report["score"] for report in record["curve"]}
        table = pd.read_csv(done[0] / f"trackers/csv/{name}.csv")
        assert dict(zip(table["epoch"], table["val/score"], strict=True)) == pytest.approx(curve)
        events = EventAccumulator(str(done[0] / "trackers" / "tensorboard" / name))
        events.Reload()
        points = events.Scalars("val/score")
        assert [point.step for point in points] == list(curve)
        assert [point.value for point in points] == pytest.approx(list(curve.values()))


def test_trials_parquet_has_one_row_a_trial(done: Any, records: Records) -> None:
    run, _ = done
    table = pd.read_parquet(run / "trials.parquet").set_index("trial")
    ledger = records(run)
    assert list(table.index) == list(ledger)
    for name, record in ledger.items():
        row = table.loc[name]
        assert row["status"] == record["status"]
        assert row["score"] == record["curve"][-1]["score"]
        assert row["epochs"] == len(record["curve"])
        assert row["seconds"] > 0
        assert row["error"] == ""
        assert row["head.dropout"] == record["params"]["head.dropout"]


def test_trials_were_pruned_in_the_order_they_ran(done: Any, records: Records) -> None:
    pruner = make_pruner(Plan.read(RunFolder(done[0])).pruner, EPOCHS)
    for name, record in records(done[0]).items():
        verdicts = [pruner.judge(name, report, record["origin"] == "search") for report in record["curve"]]
        assert all(verdicts[:-1])
        assert record["status"] == ("COMPLETE" if verdicts[-1] else "PRUNED")
        assert len(record["curve"]) == (EPOCHS if verdicts[-1] else len(verdicts))


def test_proposals_lie_in_the_space(done: Any, space_file: Path, records: Records) -> None:
    space = load_space(str(space_file))
    recipes = [Recipe.parse(record["recipe"]) for record in records(done[0]).values()]
    assert len({recipe.hash for recipe in recipes}) == TRIALS
    for recipe in recipes:
        assert 1e-4 <= recipe.optimizer.head_lr <= 1e-2
        assert recipe.backbone == space.base.backbone


def test_side_by_side_and_at_random(sweep: Callable[..., Any], records: Records) -> None:
    run, said = sweep("wide", "--search", "random", "--seed", 3, "--set", "head.dropout=0.2", "--epochs", 2)
    assert said.returncode == 0, said.stderr
    ledger = records(run)
    assert len(ledger) == TRIALS
    assert {r["recipe"]["head"]["dropout"] for r in ledger.values()} == {0.2}
    assert {r["recipe"]["schedule"]["epochs"] for r in ledger.values()} == {2}
    assert "head.dropout" not in ledger["t0000"]["params"]
    complete = {name for name, record in ledger.items() if record["status"] == "COMPLETE"}
    assert {path.stem for path in (run / "oof").iterdir()} == complete


def test_where_every_trial_fails_the_reason_is_said(
    sweep: Callable[..., Any], records: Records, forage: Forage, tmp_path: Path
) -> None:
    cache = {"FORAGE_CACHE": str(tmp_path), "FORAGE_CACHE_LIMIT": "1e-6"}
    run, said = sweep("doomed", "--trials", 3, "--cpus-per-trial", os.cpu_count(), **cache)
    assert said.returncode == 1
    assert [record["status"] for record in records(run).values()] == ["FAILED"] * 3
    reason, hint = said.stderr.splitlines()[-2:]
    assert reason.startswith("forage: no trial was complete; the first error: the cache may hold 1e-06 GB")
    assert hint == f"see: forage status {run} --trial t0000"
    assert "Traceback" not in said.stderr
    assert json.loads(said.stdout)["failed"] == 3
    table = pd.read_parquet(run / "trials.parquet")
    assert table["error"].str.contains("FORAGE_CACHE_LIMIT").all()
    assert not (run / "oof").exists()
    again = forage("resume", run)  # all trials have ended
    assert again.returncode == 1
    assert again.stderr.splitlines()[-2:] == [reason, hint]
