"""`forage predict --maps`: pictures beside the submission, refused before anything is computed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import forage.blending.prediction
from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.prediction.density_maps import density_maps
from ensemble.prediction.predict import predict
from pasture.dataset import read_test, read_train
from pasture.run_folder import RunFolder
from pasture.verification import verify
from search_spaces.catalogue import load_recipe
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial


def test_a_blend_without_a_density_head_is_refused_in_one_line(
    shell: Any, blend: Blend, paddocks: Path, tmp_path: Path
) -> None:
    said = shell("predict", blend.folder, paddocks, "--out", tmp_path / "s.csv", "--maps", tmp_path / "maps")
    assert said.status == 2
    assert "no member has a density head" in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder(shell: Any, blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    (tmp_path / "maps").write_text("")
    said = shell("predict", blend.folder, paddocks, "--out", tmp_path / "s.csv", "--maps", tmp_path / "maps")
    assert said.status == 2
    assert "--maps" in said.err
    assert "is a file; expected a folder" in said.err


@pytest.mark.heavy
def test_a_picture_for_every_photograph(
    shell: Any, blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = read_test(paddocks).ids
    monkeypatch.setattr(forage.blending.prediction, "density_members", lambda _: [])
    monkeypatch.setattr(forage.blending.prediction, "density_maps", lambda *_: ((i, np.ones((2, 4, 5))) for i in ids))
    said = shell("predict", blend.folder, paddocks, "--out", tmp_path / "s.csv", "--maps", tmp_path / "maps")
    assert said.status == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == sorted(f"{i}.png" for i in ids)
    assert (tmp_path / "s.csv").is_file()


@pytest.fixture
def mixed_blend(paddocks: Path, frozen_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Blend:
    """One member is the preset frozen_density, the other has an MLP; two folds of two epochs each."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    changes = {"schedule.epochs": 2, "validation": {"folds": 2, "splitter": "group"}}
    dense = load_recipe("frozen_density").with_overrides({"view.size": 64, **changes})
    dataset, run = verify(read_train(paddocks)), RunFolder(tmp_path / "run")
    run.write_truth(dataset)
    for key, recipe in (("t0000", dense), ("t0001", frozen_recipe.with_overrides(changes))):
        trial = Trial(key, recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu"))))
        while not trial.done:
            trial.step()
        write_finished(run, trial)
    return build([run], tmp_path / "blend", "flips", "uniform")


@pytest.mark.heavy
@pytest.mark.filterwarnings("ignore:head.kind=density keeps")
def test_a_blend_with_frozen_density_predicts_is_refitted_and_draws_maps(
    shell: Any, mixed_blend: Blend, paddocks: Path, tmp_path: Path
) -> None:
    assert shell("refit", mixed_blend.folder, paddocks, "--out", tmp_path / "refit").status == 0
    folders = {"folds": mixed_blend.folder, "refitted": tmp_path / "refit"}
    assert [(m.folds, m.recipe.dense) for m in Blend.read(folders["refitted"]).members if m.recipe] == [
        (1, True),
        (1, False),
    ]
    test, grams, pictures = read_test(paddocks), {}, {}
    for name, folder in folders.items():
        maps = tmp_path / f"maps of {name}"
        said = shell("predict", folder, paddocks, "--out", tmp_path / f"{name}.csv", "--maps", maps)
        assert said.status == 0, said.err
        assert sorted(path.name for path in maps.iterdir()) == sorted(f"{image}.png" for image in test.ids)
        pictures[name] = cv2.imread(str(maps / f"{test.ids[0]}.png"))
        # Two cells wide and high: views of 64 pixels at a stride of 32. Maps show the density member alone.
        blend = Blend.read(folder)
        drawn = np.array([cells for _, cells in density_maps(blend, test)])
        assert drawn.shape == (len(test), 2, 4, 5)
        alone = [member for member in blend.members if member.recipe and member.recipe.dense]
        whole = tuple(dataclasses.replace(member, weight=1.0) for member in alone)
        assert drawn.sum(axis=(1, 2)) == pytest.approx(
            predict(dataclasses.replace(blend, members=whole), test), rel=1e-3
        )
        grams[name] = predict(blend, test)
    assert pictures["folds"].shape == pictures["refitted"].shape
    assert np.abs(grams["folds"] - grams["refitted"]).max() > 0.01
    assert (tmp_path / "folds.csv").read_text() != (tmp_path / "refitted.csv").read_text()
