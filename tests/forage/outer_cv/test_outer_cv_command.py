"""The command: sweeps that run once, scores of their blends, and bad input in one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from ensemble.members.pool import Member
from ensemble.weighting.methods import METHODS
from ensemble.weighting.options import DEFAULT_METHOD
from forage.outer_cv import run_sweeps
from forage.outer_cv.refit import refit_members
from forage.outer_cv.run_sweeps import OuterRun, Stopped
from pasture.dataset import read_train
from pasture.errors import JobError
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import Array
from pasture.verification import VerifiedDataset, verify
from tests.forage.conftest import Shell
from tests.forage.outer_cv.conftest import SPACE
from trainables.features.context import TrialContext
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.trial.refit import learner_on_all
from tune.cluster.connection import Connection
from tune.records.plan import Plan

pytestmark = pytest.mark.heavy


@pytest.fixture
def words(paddocks: Path, tmp_path: Path) -> list[object]:
    """A whole command line: two groups of dates, one seed, two sweeps a group."""
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    options = [
        "--space",
        tmp_path / "space.yaml",
        "--trials",
        3,
        "--splits",
        2,
        "--seeds",
        1,
        "--out",
        tmp_path / "out",
    ]
    return ["outer-cv", paddocks, *options, "--against", "one-recipe", "--json"]


def _rows(out: str) -> dict[str, dict[str, Any]]:
    return {row["strategy"]: row for row in json.loads(out)["rows"]}


def test_every_strategy_is_scored_on_dates_that_its_sweep_has_not_seen(
    shell: Shell, words: list[object], launched: list[str], tmp_path: Path, paddocks: Path
) -> None:
    said = shell(*words)
    assert said.status == 0, said.err
    runs = [f"seed0-split{split}-{name}" for split in (0, 1) for name in ("search", "one-recipe")]
    assert launched == runs
    rows = _rows(said.out)
    written = json.loads((tmp_path / "out" / "outer-cv.json").read_text())
    assert len(written.pop("date_names")) == written["dates"]
    assert written == json.loads(said.out)
    assert set(rows) == {f"search: {m}" for m in (*METHODS, "best single")} | {
        "start portfolio",
        "start portfolio, refitted",
        f"search: {DEFAULT_METHOD}, refitted",
        "one-recipe",
        "target means",
    }
    dataset = read_train(paddocks)
    predicted = np.empty_like(dataset.targets)
    row = {image: i for i, image in enumerate(dataset.ids)}
    for split in (0, 1):
        run = RunFolder(tmp_path / "out" / f"seed0-split{split}-search")
        tables = [OofTable.read(run.outer, f"{trial}.parquet") for trial in ("t0000", "t0001")]
        predicted[[row[i] for i in tables[0].image_ids]] = np.mean([t.mean(tuple(range(8))) for t in tables], axis=0)
    assert rows["start portfolio"]["outer"] == pytest.approx(weighted_r2(dataset.targets, predicted), abs=1e-6)
    refitted = weighted_r2(dataset.targets, _refitted(tmp_path / "out", verify(dataset)))
    assert rows["start portfolio, refitted"]["outer"] == pytest.approx(refitted, abs=1e-5)
    assert refitted != pytest.approx(rows["start portfolio"]["outer"], abs=1e-5)


def _refitted(out: Path, dataset: VerifiedDataset) -> Array:
    """(n, 5) mean of the two start recipes, each as one model of all dates that its sweep has seen."""
    predicted = np.empty_like(dataset.targets)
    for split in (0, 1):
        run = RunFolder(out / f"seed0-split{split}-search")
        held = verify(dataset.hold_out(Plan.read(run).outer))
        context, outer = TrialContext(held, torch.device("cpu")), np.flatnonzero(held.outer)
        starts = [Recipe.parse(run.read_oof(trial).metadata["recipe"]) for trial in ("t0000", "t0001")]
        models = [learner_on_all(recipe, context, 2, ()) for recipe in starts]
        assert {len(model.rows) for model in models} == {len(dataset) - len(outer)}
        predicted[outer] = np.mean([model.predict(outer, d4.ALL).mean(axis=1) for model in models], axis=0)
    return predicted


def test_members_that_train_their_backbone_are_not_refitted(paddocks: Path, tmp_path: Path) -> None:
    recipe = Recipe.parse(SPACE["base"]).with_overrides({"backbone.tuning": "full"}).to_dict()
    run, none = RunFolder(tmp_path), np.empty((0, 5))
    member = Member("run-t0000", run, "t0000", recipe, "", 0.5, 0, none, None, np.empty(0, dtype=np.int8))
    dataset = read_train(paddocks)
    outer_run = OuterRun(run, "search", 0, (str(dataset.dates[0]),), {}, frozenset())
    assert not refit_members(outer_run, dataset, [member])
    assert not run.refitted.names("")


def test_finished_sweeps_are_not_run_again_and_lose_their_weights(
    shell: Shell, words: list[object], launched: list[str], tmp_path: Path
) -> None:
    first = shell(*words)
    assert not list((tmp_path / "out").glob("*/weights/*/*"))
    launched.clear()
    assert shell(*words).out == first.out
    assert launched == []
    assert shell(*words, "--against", "random").status == 0
    assert launched == ["seed0-split0-random", "seed0-split1-random"]


def test_a_stopped_command_keeps_what_is_finished(
    shell: Shell, words: list[object], launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = run_sweeps.launch

    def stop_at_the_third(run: RunFolder, *arguments: Any, **options: Any) -> Any:
        if len(launched) == 2:
            raise Stopped
        return launch(run, *arguments, **options)

    monkeypatch.setattr(run_sweeps, "launch", stop_at_the_third)
    said = shell(*words)
    assert (said.status, said.out) == (130, "")
    assert "stopped; the same command goes on from" in said.err
    monkeypatch.setattr(run_sweeps, "launch", launch)
    assert shell(*words).status == 0
    assert len(launched) == 4


def test_the_death_of_ray_ends_the_command_in_one_line(
    shell: Shell, words: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(*_: Any, connection: Connection, **__: Any) -> None:
        assert connection.on_loss is not None
        connection.on_loss(JobError("the head of Ray no longer answers"))

    monkeypatch.setattr(run_sweeps, "launch", launch)
    monkeypatch.setattr("os._exit", sys.exit)
    said = shell(*words)
    assert said.status == 1
    assert said.err.splitlines()[-1] == "forage: the head of Ray no longer answers"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--splits", 50], "--splits 50: the data have "),
        (["--against", "grid"], "--against grid: expected one of one-recipe, random, random+asha, optuna+asha, or a"),
        (["--against", "random", "--against", "random"], "--against random: given twice"),
        (["--space", "nowhere"], "no space 'nowhere'"),
        (["--set", "validation.folds=40"], "validation.splitter=stratified_group needs at least 40 sampling dates"),
    ],
)
def test_bad_input_is_one_line_before_any_sweep(
    shell: Shell, words: list[object], launched: list[str], changes: list[object], message: str
) -> None:
    said = shell(*words, *changes)
    assert (said.status, said.out) == (2, "")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert launched == []


def test_an_output_folder_of_other_options_is_refused(shell: Shell, words: list[object], launched: list[str]) -> None:
    shell(*words)
    launched.clear()
    said = shell(*words, "--trials", 4)
    assert said.status == 2
    assert "made with another trials; choose another --out, or the same options" in said.err
    assert launched == []


def test_the_table_is_for_people(shell: Shell, words: list[object], launched: list[str]) -> None:
    out = shell(*words[:-1]).out
    assert "R2 on 24 photographs of" in out
    for word in ("search: greedy", "reference", "start portfolio", "target means"):
        assert word in out
    assert "…" not in out
