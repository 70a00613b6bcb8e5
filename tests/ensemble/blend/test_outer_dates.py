"""Predictions for outer dates are what a blend of the saved weights predicts there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import ensemble.prediction.predict
from ensemble.blend.build import build
from ensemble.members.load import load_members
from ensemble.prediction.predict import predict
from pasture.dataset import Dataset, read_train
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset, verify
from tests.conftest import recipes
from trainables.features.context import TrialContext
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

ABOUT_HALF_PRECISION = {"rtol": 2e-3, "atol": 2e-3}


def finish(run: RunFolder, dataset: VerifiedDataset, name: str, number: int = 0) -> None:
    """Train one of the suite's recipes and write what it leaves."""
    recipe = recipes()[number]
    trial = Trial(name, recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu"))))
    while not trial.done:
        trial.step()
    write_finished(run, trial)


@pytest.fixture
def dataset(paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VerifiedDataset:
    """The photographs with one date held out."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    dataset = verify(read_train(paddocks))
    return dataset.hold_out([dataset.dates[0]])


@pytest.mark.heavy
@pytest.mark.parametrize("number", [0, 2])
def test_the_saved_weights_predict_what_the_trial_has_written(
    dataset: VerifiedDataset, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble.prediction.predict, "all_devices", lambda: [torch.device("cpu")])
    run = RunFolder(tmp_path / "run")
    run.write_truth(dataset)
    finish(run, dataset, "t0000", number)
    blend = build([run], tmp_path / "blend", "d4")
    table = OofTable.read(run.outer, "t0000.parquet")
    photographs = Dataset(dataset.root, dataset.images[dataset.outer])
    assert table.image_ids == photographs.ids
    np.testing.assert_allclose(predict(blend, photographs), table.mean(tuple(range(8))), **ABOUT_HALF_PRECISION)


@pytest.mark.heavy
def test_trials_that_held_out_other_dates_are_not_blended(dataset: VerifiedDataset, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.write_truth(dataset)
    finish(run, dataset, "t0000")
    finish(run, dataset, "t0001", 1)
    finish(run, dataset.hold_out(()), "t0002", 2)
    pool = load_members([run], "none")
    assert [member.trial for member in pool.members] == ["t0000", "t0001"]
    assert not set(pool.image_ids) & {i for i, out in zip(dataset.ids, dataset.outer, strict=True) if out}
    assert [key for key, _ in pool.refused] == ["run-t0002"]
