"""The Python API: it imports nothing heavy, launches what the command line launches, and reads runs and blends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import forage
from ensemble.weighting.options import Options
from forage.python_api import options as api_options
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, balance_gap
from search_spaces.catalogue import load_space
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.cluster.connection import ExistingRay, RayConnection
from tune.records.ledger import Ledger
from tune.records.plan import CHANGEABLE, Limits

HEAVY = "torch", "ray", "pandas", "timm", "sklearn", "scipy", "optuna", "plotly", "pydantic", "numpy"


def outcome(run: RunFolder, stopped_by: Any = None) -> Any:
    from tune.session import Outcome

    return Outcome(run, Ledger(run), stopped_by)


@pytest.mark.parametrize(("module", "light"), [("forage", ()), ("forage.cli", ("numpy", "pydantic"))])
def test_import_is_light_and_silent(module: str, light: tuple[str, ...]) -> None:
    code = f"import sys, {module}; found = set({HEAVY!r}) & set(sys.modules) - set({light!r}); assert not found, found"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_public_name_is_documented() -> None:
    for name in forage.__all__:
        assert getattr(forage, name).__doc__, name


def test_the_options_are_those_of_the_plan_and_of_the_selection() -> None:
    fields = set(Limits.model_fields) - {"trials", "outer"}
    assert set(api_options.SweepOptions.__annotations__) == fields
    assert set(api_options.ResumeOptions.__annotations__) == set(CHANGEABLE)
    assert set(api_options.Selection.__annotations__) == set(Options.model_fields)


@pytest.fixture
def launched(swept: RunFolder, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Arguments of the calls of `tune.sweep.launch`, which runs nothing."""
    import tune.sweep

    calls: list[Any] = []

    def launch(run: RunFolder, data: Path, space: Space, limits: Limits, **words: Any) -> Any:
        calls.append((run, data, space, limits, words))
        return outcome(swept)

    monkeypatch.setattr(tune.sweep, "launch", launch)
    return calls


def test_launch_passes_its_arguments_on(launched: list[Any], swept: RunFolder, paddocks: Path, tmp_path: Path) -> None:
    run = forage.launch(
        str(paddocks), "demo", trials=7, name="x", runs=tmp_path, seed=5, settings={"head.dropout": 0.25},
        pruner="none", hours=2, warm_start=forage.load_run(str(swept)),
    )  # fmt: skip
    assert isinstance(run, forage.Run)
    assert (run.path, run.stopped_by) == (str(swept), None)
    where, data, space, limits, words = launched[0]
    assert (str(where), data) == (str(tmp_path / "x"), paddocks)
    assert space.base.head.dropout == 0.25
    assert "head.dropout" not in space.search
    assert limits == Limits(trials=7, pruner="none", hours=2, warm_start=str(swept))
    assert (words["search"], words["seed"], words["connection"]) == ("optuna", 5, RayConnection("local"))
    assert words["connection"].on_loss is None, "a library does not end the process"


@pytest.mark.parametrize("kind", ["name", "file", "content", "space"])
def test_a_space_is_given_in_four_ways(kind: str, launched: list[Any], paddocks: Path, tmp_path: Path) -> None:
    content = {"base": "frozen_mlp", "search": {"head.dropout": {"uniform": [0.1, 0.5]}}}
    (tmp_path / "mine.yaml").write_text(json.dumps(content))
    space = load_space(str(tmp_path / "mine.yaml"))
    ways: dict[str, Any] = {
        "name": "default", "file": tmp_path / "mine.yaml", "content": space.to_dict(), "space": space,
    }  # fmt: skip
    forage.launch(paddocks, ways[kind], connection=ExistingRay())
    where, _, given, _, words = launched[0]
    assert given.to_dict() == (load_space("default") if kind == "name" else space).to_dict()
    assert where.name.startswith({"name": "default-", "file": "mine-"}.get(kind, "space-"))
    assert words["connection"] == ExistingRay()


@pytest.mark.parametrize("recipe", ["feature_ridge", {"head": {"kind": "ridge"}}, Recipe()])
def test_train_runs_one_recipe(recipe: Any, launched: list[Any], paddocks: Path) -> None:
    forage.train(paddocks, recipe, settings={"schedule.epochs": 3}, gpus_per_trial=0)
    _, _, space, limits, words = launched[0]
    assert (space.search, space.base.schedule.epochs, words["search"]) == ({}, 3, "random")
    assert limits == Limits(trials=1, gpus_per_trial=0)


def test_a_signal_raises_with_the_run_and_the_command_line_tells_it(
    swept: RunFolder, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep

    monkeypatch.setattr(tune.sweep, "launch", lambda *_, **__: outcome(swept, "signal"))
    with pytest.raises(KeyboardInterrupt, match=r"resume it with forage.resume\('.*run'\)") as caught:
        forage.launch(paddocks)
    assert isinstance(caught.value, forage.Interrupted)
    assert caught.value.run.path == str(swept)


def test_resume_passes_on_what_is_not_none(swept: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import tune.sweep

    calls: list[Any] = []

    def resume(run: RunFolder, changes: Any, **words: Any) -> Any:
        calls.append((str(run), changes, words["retry_failed"]))
        return outcome(swept, "hours")

    monkeypatch.setattr(tune.sweep, "resume", resume)
    run = forage.resume(Path(str(swept)), trials=9, hours=None, retry_failed=True)
    assert run.stopped_by == "hours"
    assert calls == [(str(swept), {"trials": 9}, True)]


def test_errors_are_exceptions_of_one_line(paddocks: Path, tmp_path: Path) -> None:
    for call in (
        lambda: forage.load_run(tmp_path),
        lambda: forage.load_blend(tmp_path),
        lambda: forage.build(tmp_path, tmp_path / "blend"),
        lambda: forage.resume(tmp_path),
        lambda: forage.launch(paddocks, "nosuch"),
        lambda: forage.launch(paddocks, trials=4, promote=5),
        lambda: forage.launch(paddocks, name="a/b"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_run_as_tables(swept: RunFolder) -> None:
    run = forage.load_run(str(swept))
    assert run.plan.trials == 5
    assert run.status()["best_trial"] == "t0001"
    trials, curves, oof = run.trials, run.curves, run.oof
    assert list(trials["trial"]) == ["t0000", "t0001", "t0002", "t0003", "t0004"]
    assert {"status", "score", "error", "head.dropout"} <= set(trials.columns)
    assert len(curves) == 7
    best = curves[curves["trial"] == "t0001"]
    assert best["score"].tolist() == [0.4, 0.5]
    assert best["epoch"].tolist() == [1, 2]
    assert list(oof.columns) == ["trial", "image_id", "fold", *TARGETS]
    truth = run.truth[list(TARGETS)]
    for trial, rows in oof.groupby("trial"):
        predicted = rows.set_index("image_id").loc[truth.index, list(TARGETS)]
        expected = swept.read_oof(str(trial)).metadata["score"]
        assert weighted_r2(truth.to_numpy(), predicted.to_numpy()) == pytest.approx(expected, abs=1e-5)
    assert run.write_report() == f"{swept}/report.html"
    assert repr(run) == f"forage.load_run({str(swept)!r})"


def test_a_run_of_imported_members_as_tables(swept: RunFolder, tmp_path: Path) -> None:
    for name in ("t0000", "t0001"):
        table = swept.read_oof(name)
        metadata = table.metadata | {"trial": name, "missing": 0}
        OofTable(table.image_ids, table.folds, table.predictions[:, :1], metadata).write(
            RunFolder(tmp_path / "theirs").oof, f"{name}.parquet"
        )
    run = forage.load_run(tmp_path / "theirs")
    assert list(run.trials.columns) == ["trial", "score", "missing"]
    assert run.status()["imported"] == 2
    assert run.curves.empty
    assert set(run.oof["trial"]) == {"t0000", "t0001"}


@pytest.mark.heavy
def test_build_then_load_then_predict(swept: RunFolder, paddocks: Path, tmp_path: Path) -> None:
    built = forage.build(forage.load_run(str(swept)), tmp_path / "blend", tta="none", max_members=2)
    assert len(built.members) <= 2
    assert built.scores["options"] == {"max_members": 2}
    assert built.refused == []
    blend = forage.load_blend(tmp_path / "blend")
    assert json.dumps(blend.scores) == json.dumps(built.scores)
    pd.testing.assert_frame_equal(blend.members, built.members)
    assert blend.oof.shape == (24, 5)
    truth = forage.load_run(str(swept)).truth.loc[blend.oof.index, list(TARGETS)]
    assert weighted_r2(truth.to_numpy(), blend.oof.to_numpy()) == pytest.approx(blend.scores["fitted"], abs=1e-5)
    predictions = blend.predict(paddocks)
    assert predictions.shape == (6, 5)
    assert np.abs(balance_gap(predictions.to_numpy())).max() < 1e-6
    forage.write_submission(tmp_path / "s.csv", predictions, paddocks)
    asked = pd.read_csv(paddocks / "sample_submission.csv")
    written = pd.read_csv(tmp_path / "s.csv")
    assert list(written["sample_id"]) == list(asked["sample_id"])
    image, target = written["sample_id"][0].split("__")
    assert written["target"][0] == pytest.approx(predictions.loc[image, target], abs=1e-6)


def test_propose_starts_with_the_start_recipes_and_depends_on_the_seed(paddocks: Path, tmp_path: Path) -> None:
    space = {
        "base": {"backbone": {"name": "test_efficientnet", "weights": "none"}, "validation": {"folds": 3}},
        "search": {"head.dropout": {"uniform": [0.1, 0.5]}},
        "start": [{"head.dropout": 0.2}],
    }
    first, second, other = (forage.propose(paddocks, space, trials=4, runs=tmp_path, seed=seed) for seed in (1, 1, 2))
    assert [vars(record) for record in first] == [vars(record) for record in second]
    assert [record.origin for record in first] == ["start", "search", "search", "search"]
    assert [record.name for record in first] == ["t0000", "t0001", "t0002", "t0003"]
    assert first[0].recipe["head"]["dropout"] == 0.2 == other[0].recipe["head"]["dropout"]
    assert first[1].recipe["head"]["dropout"] != other[1].recipe["head"]["dropout"]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_prints_recipes_that_can_be_read(shell: Any, paddocks: Path, tmp_path: Path) -> None:
    import yaml

    words = (
        "sweep", paddocks, "--runs", tmp_path / "runs", "--trials", 3, "--dry-run", "--space", "default", "--no-start",
        "--set", "backbone={name: test_efficientnet, weights: none}", "--set", "validation.folds=3",
    )  # fmt: skip
    said = shell(*words)
    assert said.status == 0, said.err
    recipes = [Recipe.parse(content) for content in yaml.safe_load_all(said.out)]
    assert len({recipe.hash for recipe in recipes}) == 3
    records = json.loads(shell(*words, "--json").out)
    assert [record["recipe"] for record in records] == [recipe.to_dict() for recipe in recipes]
    assert not (tmp_path / "runs").exists()
    shutil.copytree(paddocks, tmp_path / "data")
    (tmp_path / "data" / "train.csv").write_text("sample_id\n")
    assert shell("sweep", tmp_path / "data", "--dry-run").status == 2
