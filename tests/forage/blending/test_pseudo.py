"""`forage pseudo`: a data folder whole by itself, whose pseudo-labels are trained on and never judged on."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import forage.blending.pseudo
from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.prediction.predict import predict
from forage.blending.pseudo import one_teacher, write_pseudo
from pasture.dataset import Dataset, read_test, read_train
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from pasture.targets import balance_gap
from pasture.verification import verify
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

METADATA = ["Sampling_Date", "State", "Species", "Pre_GSHH_NDVI", "Height_Ave_cm"]
RECIPE = Recipe.parse(
    {
        "view": {"size": 32},
        "backbone": {"name": "test_efficientnet", "weights": "none"},
        "head": {"hidden": [8]},
        "loss": {"lds": {"enabled": True}, "distillation": 0.5, "auxiliary": 0.2},
        "schedule": {"epochs": 2, "batch_size": 16},
        "validation": {"splitter": "group", "folds": 3},
    }
)


@pytest.fixture(scope="module")
def folder(blend: Blend, paddocks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 24 labelled photographs of `paddocks`, and its 6 others with pseudo-labels. Not to be changed."""
    out = tmp_path_factory.mktemp("pseudo") / "data"
    assert write_pseudo(one_teacher(blend, 0.3), paddocks, out, 0.3) == 6
    return out


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions that take no time."""
    monkeypatch.setattr(forage.blending.pseudo, "predict", lambda _, test: np.ones((len(test), 5)) * [1, 1, 0, 1, 2])


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@pytest.mark.heavy
def test_measured_rows_are_as_before_and_pseudo_rows_carry_the_predictions(
    folder: Path, paddocks: Path, blend: Blend
) -> None:
    before, after = read(paddocks / "train.csv"), read(folder / "train.csv")
    assert list(after.columns) == [*before.columns, "Pseudo_Weight"]
    pd.testing.assert_frame_equal(after[: len(before)], before.assign(Pseudo_Weight=""))
    pseudo = after[len(before) :]
    assert set(pseudo["Pseudo_Weight"]) == {"0.3"}
    assert (pseudo[METADATA] == "").all(axis=None)
    test, dataset = read_test(paddocks), read_train(folder)
    rows = dataset.images.index.get_indexer(test.ids)
    # Not equal: pandas 2 reads a number of 17 digits to within one unit of the last.
    np.testing.assert_allclose(dataset.targets[rows], predict(blend, test), rtol=1e-15)
    assert balance_gap(dataset.targets).max() < 0.01
    np.testing.assert_array_equal(np.flatnonzero(~dataset.measured), np.sort(rows))


def test_pictures_are_linked_not_copied(folder: Path, paddocks: Path) -> None:
    for before in [*(paddocks / "train").iterdir(), *(paddocks / "test").iterdir()]:
        assert before.samefile(folder / "train" / before.name)
    for name in ("test.csv", "sample_submission.csv"):
        assert (folder / name).read_bytes() == (paddocks / name).read_bytes()
        assert not (folder / name).samefile(paddocks / name)  # a table may be edited in place


@pytest.mark.heavy
@pytest.mark.parametrize("linked", [True, False])
def test_the_folder_is_whole_by_itself(
    shell: Any, blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    if not linked:
        monkeypatch.setattr(os, "link", refuse)
    data = shutil.copytree(paddocks, tmp_path / "data")
    shutil.move(data / "test", tmp_path / "pictures")
    (data / "test").mkdir()
    for picture in (tmp_path / "pictures").iterdir():  # relative links, as of a data folder that is a view of another
        (data / "test" / picture.name).symlink_to(Path("../../pictures") / picture.name)
    said = shell("pseudo", blend.folder, data, "--out", tmp_path / "out")
    assert (said.status, said.out) == (0, "")
    assert "6 photographs with pseudo-labels of weight 0.5" in said.err
    assert "is too high, the nested one too" in said.err
    shutil.rmtree(data)
    shutil.rmtree(tmp_path / "pictures")
    content = json.loads(shell("check", tmp_path / "out", "--json").out)
    assert (content["images"], content["pseudo_images"], content["test_images"]) == (24, 6, 6)
    assert content["baseline"] == read_train(paddocks).baseline()
    assert content["dates"] == len(set(read_train(paddocks).dates))
    assert "6 photographs with pseudo-labels" in shell("check", tmp_path / "out").out


@pytest.mark.parametrize("weight", [0, -0.5, 1.5, float("nan")])
def test_weights_out_of_range_are_refused(
    shell: Any, blend: Blend, paddocks: Path, tmp_path: Path, weight: float
) -> None:
    said = shell("pseudo", blend.folder, paddocks, "--out", tmp_path / "out", "--weight", weight)
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert "at most 1" in said.err
    assert not any(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(
    shell: Any, blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forage.blending.pseudo, "predict", lambda *_: pytest.fail("predicted all the same"))
    (tmp_path / "mine").write_text("")
    said = shell("pseudo", blend.folder, paddocks, "--out", tmp_path)
    assert said.status == 2
    assert "exists: a new or empty folder expected" in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.usefixtures("instant")
def test_what_fails_half_way_leaves_nothing(
    blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(forage.blending.pseudo, "link_or_copy", fail)
    with pytest.raises(KeyboardInterrupt):
        write_pseudo(one_teacher(blend, 0.5), paddocks, tmp_path / "out", 0.5)
    assert not any(tmp_path.iterdir())


def test_photographs_are_not_labelled_twice(blend: Blend, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"test photograph ID\d+ is in train\.csv already"):
        write_pseudo(one_teacher(blend, 0.5), folder, tmp_path / "out", 0.5)


def test_two_pictures_of_one_name_are_refused(blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    data = shutil.copytree(paddocks, tmp_path / "data")
    taken = Path(read_train(data).images["image_path"].iloc[0]).name
    table = read(data / "test.csv")
    first = table["image_path"].iloc[0]
    table.replace({"image_path": {first: f"test/{taken}"}}).to_csv(data / "test.csv", index=False)
    (data / first).rename(data / "test" / taken)
    with pytest.raises(InputError, match=f"would both become train/{taken}"):
        write_pseudo(one_teacher(blend, 0.5), data, tmp_path / "out", 0.5)


@pytest.mark.usefixtures("instant")
def test_pseudo_labels_of_other_photographs_are_kept(blend: Blend, folder: Path, tmp_path: Path) -> None:
    data = shutil.copytree(folder, tmp_path / "data")
    others = read(data / "test.csv").replace({"sample_id": "^ID"}, {"sample_id": "NEW"}, regex=True)
    others = others.replace({"image_path": "^test/"}, {"image_path": "test/new-"}, regex=True)
    others.to_csv(data / "test.csv", index=False)
    for picture in (data / "test").iterdir():
        picture.rename(picture.with_name(f"new-{picture.name}"))
    write_pseudo(one_teacher(blend, 1), data, tmp_path / "out", 1)
    weights, counts = np.unique(read_train(tmp_path / "out").images["pseudo_weight"], return_counts=True)
    np.testing.assert_array_equal(weights, [0.3, 1, np.nan])
    assert counts.tolist() == [6, 6, 24]


@pytest.mark.heavy
def test_a_trial_on_it_is_judged_on_measured_images_and_can_be_blended(
    folder: Path, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    dataset, measured = read_train(folder), read_train(paddocks)
    run = RunFolder(tmp_path / "run")
    run.write_truth(dataset)
    for seed in (0, 1):
        recipe = RECIPE.with_overrides({"seed": seed})
        verified = verify(dataset)
        executor = SequentialFolds(recipe, TrialContext(verified, torch.device("cpu")))
        trial = Trial(f"t{seed}", recipe, verified, executor)
        while not trial.done:
            trial.step()
        for learner in trial.executor.learners.values():
            assert set(np.flatnonzero(~dataset.measured)) <= set(learner.rows)
        write_finished(run, trial)
        assert sorted(run.read_oof(trial.name).image_ids) == measured.ids
    assert run.read_truth().index.tolist() == measured.ids
    blend = build([run], tmp_path / "blend", "d4")
    assert blend.evidence is not None
    assert blend.evidence.image_ids == measured.ids
    assert np.isfinite(predict(blend, Dataset(dataset.root, dataset.images[~dataset.measured]))).all()
    assert not [str(w.message) for w in recwarn if "species" in str(w.message)]
