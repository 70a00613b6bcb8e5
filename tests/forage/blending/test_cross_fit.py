"""Cross-fitted pseudo-labels: what fold k learns does not depend on the labels that it is scored on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.prediction.predict import model_predictions
from forage.blending.cross_fit import agreement, write_cross_fitted
from pasture.dataset import read_test, read_train
from pasture.errors import InputError
from pasture.folds import held_out_rows, make_folds, training_rows
from pasture.projection import project
from pasture.run_folder import RunFolder
from pasture.verification import verify
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

RECIPE = Recipe.parse(
    {
        "view": {"size": 32},
        "backbone": {"name": "test_efficientnet", "weights": "none"},
        "head": {"hidden": [8]},
        "schedule": {"epochs": 2, "batch_size": 16},
        "validation": {"splitter": "group", "folds": 3},
    }
)


def trained(data: Path, recipe: Recipe = RECIPE, name: str = "t0") -> Trial:
    dataset = verify(read_train(data))
    trial = Trial(name, recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu"))))
    while not trial.done:
        trial.step()
    return trial


def blended(data: Path, folder: Path) -> Blend:
    """A blend of two members, made from the data alone."""
    run = RunFolder(folder / "run")
    run.write_truth(read_train(data))
    for seed in (0, 1):
        write_finished(run, trained(data, RECIPE.with_overrides({"seed": seed}), f"t{seed}"))
    return build([run], folder / "blend", "none", "uniform")


@pytest.fixture(scope="module")
def teacher(paddocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Blend:
    return blended(paddocks, tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def crossed(teacher: Blend, paddocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("crossed") / "data"
    assert write_cross_fitted(teacher, paddocks, out, 0.4, 1, lambda _: None) == 6
    return out


@pytest.mark.heavy
def test_each_fold_learns_from_the_labels_of_its_own_teacher(teacher: Blend, paddocks: Path, crossed: Path) -> None:
    dataset, test = read_train(crossed), read_test(paddocks)
    before = make_folds(read_train(paddocks), "group", 3, 42)
    folds = make_folds(dataset, "stratified_group", 3, 7)  # those of the teachers, whatever is asked for
    assert (
        dict(zip(dataset.ids, folds, strict=True)).items()
        >= dict(zip(read_train(paddocks).ids, before, strict=True)).items()
    )
    assert len(dataset) == 24 + 3 * 6
    ((_, grams),) = model_predictions(teacher, test)  # (members * folds, elements, 6, 5)
    for fold in range(3):
        rows = training_rows(folds, fold)
        pseudo = [row for row in rows if not dataset.measured[row]]
        assert [dataset.ids[row] for row in pseudo] == sorted(f"{i}-teacher{fold}" for i in test.ids)
        assert sorted([*rows[dataset.measured[rows]], *held_out_rows(folds, fold)]) == sorted(
            np.flatnonzero(dataset.measured)
        )
        expected = project(np.mean([grams[fold, 0], grams[3 + fold, 0]], axis=0))
        order = [test.ids.index(dataset.ids[row].rsplit("-", 1)[0]) for row in pseudo]
        np.testing.assert_allclose(dataset.targets[pseudo], expected[order], rtol=1e-6)
        weights = 0.4 * agreement(np.stack([grams[fold, 0], grams[3 + fold, 0]]))
        np.testing.assert_allclose(dataset.pseudo_weights[pseudo], weights[order], rtol=1e-6)


@pytest.mark.heavy
def test_what_a_fold_learns_does_not_depend_on_the_labels_it_is_scored_on(
    paddocks: Path, crossed: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(paddocks, tmp_path / "other")
    table = pd.read_csv(other / "train.csv", dtype=str, keep_default_na=False)
    folds = dict(zip(read_train(paddocks).ids, make_folds(read_train(paddocks), "group", 3, 42), strict=True))
    held = table["sample_id"].str.split("__").str[0].map(folds) == 0
    table.loc[held, "target"] = (3 * table.loc[held, "target"].astype(float)).astype(str)
    table.to_csv(other / "train.csv", index=False)
    write_cross_fitted(blended(other, tmp_path), other, tmp_path / "data", 0.4, 1, lambda _: None)
    students = [trained(folder) for folder in (crossed, tmp_path / "data")]
    for fold in range(3):
        first, second = (student.executor.learners[fold].weights() for student in students)  # type: ignore[attr-defined]
        same = all(torch.equal(first[name], second[name]) for name in first)
        assert same == (fold == 0), f"fold {fold}"


def test_scores_carry_no_warning(crossed: Path, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    run = RunFolder(tmp_path / "run")
    run.write_truth(read_train(crossed))
    write_finished(run, trained(crossed))
    assert not [str(w.message) for w in recwarn if "identical" in str(w.message)]
    assert run.read_oof("t0").metadata["pseudo_images"] == 0
    assert not [warning for warning in build([run], tmp_path / "blend", "none").warnings if "pseudo" in warning]
    assert read_train(crossed).leaking == 0


@pytest.mark.heavy
def test_rounds(teacher: Blend, crossed: Path, paddocks: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    write_cross_fitted(teacher, paddocks, tmp_path / "data", 0.4, 2, lines.append)
    assert [line.split(":")[0].strip() for line in lines] == ["round 1 of 2", "run-t0", "run-t1"]
    first, second = read_train(crossed), read_train(tmp_path / "data")
    assert first.ids == second.ids
    np.testing.assert_array_equal(first.targets[first.measured], second.targets[second.measured])
    assert not np.array_equal(first.targets, second.targets)


def test_one_model_counts_each_photograph_once(crossed: Path) -> None:
    dataset = read_train(crossed)
    shared = dataset.for_one_model()
    pseudo = ~dataset.measured
    np.testing.assert_allclose(shared.pseudo_weights[pseudo], dataset.pseudo_weights[pseudo] / 3)
    assert (shared.pseudo_weights[~pseudo] == 1).all()


def test_agreement_by_hand() -> None:
    spread = np.array([1.0, 2.0, 4.0])  # half the distance of two members, which is their standard deviation
    grams = np.stack([np.repeat(sign * spread[:, None], 5, axis=1) for sign in (1, -1)])
    np.testing.assert_allclose(agreement(grams), [1.0, 1.0, 0.5])
    np.testing.assert_array_equal(agreement(grams[:1]), [1, 1, 1])


def test_another_number_of_folds_is_refused(crossed: Path) -> None:
    for splitter, folds in (("group", 4), ("holdout", 3)):
        with pytest.raises(InputError, match=r"come from 3 teachers.*validation\.folds=3"):
            make_folds(read_train(crossed), splitter, folds, 0)  # type: ignore[arg-type]


def test_a_measured_image_without_its_teacher_is_refused(crossed: Path, tmp_path: Path) -> None:
    data = shutil.copytree(crossed, tmp_path / "data")
    table = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
    table.loc[:4, "Teacher_Fold"] = ""
    table.to_csv(data / "train.csv", index=False)
    with pytest.raises(InputError, match="has no Teacher_Fold, but others have"):
        read_train(data)


@pytest.mark.heavy
def test_refusals(
    shell: Callable[..., Any], teacher: Blend, crossed: Path, paddocks: Path, tmp_path: Path, blend: Blend
) -> None:
    out = tmp_path / "out"
    for words, message in (
        ((teacher.folder, paddocks, "--rounds", 2), "--rounds needs --cross-fit"),
        ((teacher.folder, paddocks, "--cross-fit", "--rounds", 0), "expected 1 to 10"),
        ((teacher.folder, crossed, "--cross-fit"), "has cross-fitted pseudo-labels already"),
    ):
        said = shell("pseudo", *words, "--out", out)
        assert (said.status, said.err.count("\n")) == (2, 1)
        assert message in said.err
    said = shell("pseudo", blend.folder, paddocks, "--out", out, "--cross-fit")
    assert said.status == 0
    assert "labelled for each fold with weights up to 0.5" in said.err
    assert "too high" not in said.err
