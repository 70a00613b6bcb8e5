"""Members trained on all data: the same recipe and epochs, no image held out, one model each."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ensemble.blend.refit
import ensemble.prediction.prefix
import trainables.trial.refit
from ensemble.blend.blend import Blend
from ensemble.blend.refit import refit, refit_in_place
from ensemble.prediction.predict import predict
from pasture.dataset import read_test, read_train
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.verification import verify
from trainables.features.context import TrialContext
from trainables.network import backbone
from trainables.training.learner import FoldLearner
from trainables.trial.refit import train_on_all


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(ensemble.prediction.predict, "all_devices", lambda: [torch.device("cpu")])
    monkeypatch.setattr(ensemble.blend.refit, "best_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(ensemble.prediction.prefix, "best_device", lambda: torch.device("cpu"))
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path_factory.getbasetemp() / "refit-cache"))


@pytest.mark.heavy
def test_every_member_is_one_model_of_all_images(
    blend: Blend, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, list[float], int]] = []
    train_epoch = FoldLearner.train_epoch

    def spy(self: FoldLearner, epoch: int, scores: list[float]) -> float:
        seen.append((epoch, scores, len(self.rows)))
        return train_epoch(self, epoch, scores)

    monkeypatch.setattr(FoldLearner, "train_epoch", spy)
    monkeypatch.setattr(backbone, "_from_hub", lambda *_: pytest.fail("the hub was asked"))
    monkeypatch.setattr("importlib.metadata.files", lambda *_: pytest.fail("a package was asked for weights"))
    said: list[str] = []
    made = refit(blend, paddocks, tmp_path / "refit", said.append)
    assert len(said) == 3
    assert (tmp_path / "refit" / "evidence.npz").read_bytes() == (blend.folder / "evidence.npz").read_bytes()
    expected = [(e, list(m.curve[:e]), 24) for m in blend.members for e in range(m.epoch + 1)]
    assert seen == expected
    assert [(m.key, m.weight, m.folds) for m in made.members] == [(m.key, m.weight, 1) for m in blend.members]
    assert made.estimate == Blend.read(blend.folder).estimate
    assert any("no image is left on which they could be scored" in warning for warning in made.warnings)
    test = read_test(paddocks)
    predicted = predict(made, test)
    assert np.isfinite(predicted).all()
    assert not np.allclose(predicted, predict(blend, test), atol=0.01)


@pytest.mark.heavy
def test_a_schedule_and_epochs_are_those_of_the_folds(blend: Blend, paddocks: Path) -> None:
    """The learning rate after the last epoch is the one at which a fold of the trial stopped: not that of a schedule
    squeezed into fewer epochs."""
    member = next(m for m in blend.members if m.recipe is not None and m.recipe.banked)
    assert member.recipe is not None
    dataset = read_train(paddocks)
    rates: list[float] = []
    learner = trainables.trial.refit.FoldLearner

    class Spy(learner):  # type: ignore[misc, valid-type]
        def train_epoch(self, epoch: int, scores: list[float]) -> float:
            loss = super().train_epoch(epoch, scores)
            rates.append(self.learning_rates()["head_lr"])
            return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainables.trial.refit, "FoldLearner", Spy)
        recipe = member.recipe.with_overrides({"schedule.epochs": 10})
        train_on_all(recipe, TrialContext(verify(dataset), torch.device("cpu")), 3, ())
    assert len(rates) == 3
    assert rates[-1] > 0.5 * max(rates), "the cosine is stretched over 10 epochs, not 3"


@pytest.mark.heavy
def test_training_is_on_the_labels(blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    """With more epochs a model comes nearer to the labels that it was shown."""
    member = next(m for m in blend.members if m.recipe is not None and m.recipe.banked)
    long = dataclasses.replace(
        member, weight=1.0, epoch=59, recipe=member.recipe.with_overrides({"schedule.epochs": 60})
    )
    alone = dataclasses.replace(blend, members=(long,))
    made = refit(alone, paddocks, tmp_path / "long", lambda _: None)
    train = read_train(paddocks)
    assert weighted_r2(train.targets, predict(made, train)) > 0.8


@pytest.mark.heavy
def test_other_data_is_said(blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    data = shutil.copytree(paddocks, tmp_path / "data")
    table = pd.read_csv(data / "train.csv")
    table.iloc[: 20 * 5].to_csv(data / "train.csv", index=False)
    quick = dataclasses.replace(blend, members=blend.members[:1])
    quick = dataclasses.replace(quick, members=(dataclasses.replace(quick.members[0], weight=1.0, epoch=0),))
    made = refit(quick, data, tmp_path / "out", lambda _: None)
    assert any("other data than the blend was judged on" in warning for warning in made.warnings)
    assert made.fingerprint != blend.fingerprint


@pytest.mark.heavy
def test_some_members_are_refitted_in_place(blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    copied = Blend.read(Path(shutil.copytree(blend.folder, tmp_path / "blend")))
    chosen = [member for member in copied.members if member.recipe and member.recipe.banked]
    made = refit_in_place(copied, paddocks, chosen, lambda _: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blend"]
    assert [member.folds for member in made.members] == [1 if m in chosen else m.folds for m in copied.members]
    assert len(chosen) == 2
    for member in made.members:
        files = {path.name: path.read_bytes() for path in (made.folder / "members" / member.key).iterdir()}
        before = {path.name: path.read_bytes() for path in (blend.folder / "members" / member.key).iterdir()}
        assert len(files) == member.folds + 1
        assert (files == before) == (member.folds > 1)
    assert (made.estimate, made.fingerprint) == (copied.estimate, copied.fingerprint)
    test = read_test(paddocks)
    assert not np.allclose(predict(made, test), predict(blend, test), atol=0.01)


def test_a_blend_is_not_refitted_on_other_data(blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    copied = Blend.read(Path(shutil.copytree(blend.folder, tmp_path / "blend")))
    data = shutil.copytree(paddocks, tmp_path / "data")
    table = pd.read_csv(data / "train.csv")
    table.iloc[: 20 * 5].to_csv(data / "train.csv", index=False)
    with pytest.raises(InputError, match="not the data of the blend's runs, or changed since; give their folder with"):
        refit_in_place(copied, data, copied.members, lambda _: None)
    assert [member.folds for member in Blend.read(copied.folder).members] == [m.folds for m in blend.members]


def test_what_cannot_be_refitted_is_refused(blend: Blend, paddocks: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(InputError, match="exists: a new or empty folder"):
        refit(blend, paddocks, tmp_path / "full", lambda _: None)
    theirs = dataclasses.replace(blend.members[0], recipe=None, folds=0, backbone="", semantic="")
    with pytest.raises(InputError, match="was imported and has no recipe"):
        refit(dataclasses.replace(blend, members=(theirs,)), paddocks, tmp_path / "out", lambda _: None)
    copied = Blend.read(Path(shutil.copytree(blend.folder, tmp_path / "copy")))
    first, second = (copied.folder / "backbones" / f"{copied.members[i].backbone}.safetensors" for i in (0, 1))
    shutil.copy(second, first)
    with pytest.raises(InputError):
        refit(copied, paddocks, tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists()
    assert json.loads((blend.folder / "blend.json").read_text())["members"][0]["folds"] == 3
