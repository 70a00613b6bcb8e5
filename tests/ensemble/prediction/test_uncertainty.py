"""Spreads say what they are called, and intervals hold what they promise, by date."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ensemble.prediction.photographs
import ensemble.prediction.predict
from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendMember
from ensemble.blend.build import build
from ensemble.estimate.conformal import Conformal, calibrate
from ensemble.prediction.predict import model_predictions, predict
from ensemble.prediction.uncertainty import predict_in_detail, write_members, write_uncertainty
from pasture.dataset import Dataset, read_test, read_train
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array, from_components
from pasture.verification import verify
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble.prediction.predict, "all_devices", lambda: [torch.device("cpu")])


@pytest.fixture(scope="session")
def test(paddocks: Path) -> Dataset:
    return read_test(paddocks)


@pytest.mark.heavy
def test_the_detail_adds_up_to_the_prediction(blend: Blend, test: Dataset) -> None:
    detail = predict_in_detail(blend, test)
    np.testing.assert_allclose(detail.predictions, predict(blend, test), atol=1e-9)
    for member, alone in zip(blend.members, detail.members, strict=True):
        only = dataclasses.replace(blend, members=(dataclasses.replace(member, weight=1.0),))
        np.testing.assert_allclose(alone, predict(only, test), atol=1e-9)


@pytest.mark.heavy
def test_spreads_are_those_of_members_folds_and_elements(
    blend: Blend, test: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ensemble.prediction.photographs, "chunk_size", lambda _: 4)
    detail = predict_in_detail(blend, test, "flips")
    grams = np.concatenate([part for _, part in model_predictions(blend, test, "flips")], axis=2)
    assert grams.shape == (9, 4, 6, 5)
    by_member = grams.reshape(3, 3, 4, 6, 5)  # member, fold, element
    weights = np.array([m.weight for m in blend.members])
    spread = [np.cov(row, aweights=weights, ddof=0) for row in by_member.mean(axis=(1, 2)).reshape(3, -1).T]
    np.testing.assert_allclose(detail.member_sd.ravel(), np.sqrt(spread), atol=1e-9)
    folds = np.einsum("m,mnt->nt", weights, by_member.mean(axis=2).var(axis=1))
    np.testing.assert_allclose(detail.fold_sd, np.sqrt(folds), atol=1e-9)
    elements = np.einsum("m,ment->ent", weights, by_member.mean(axis=1)).std(axis=0)
    np.testing.assert_allclose(detail.tta_sd, elements, atol=1e-9)
    assert min(detail.member_sd.max(), detail.fold_sd.max(), detail.tta_sd.max()) > 0.01
    assert predict_in_detail(blend, test, "none").tta_sd.max() == 0


def external(weight: float) -> BlendMember:
    return BlendMember(
        key="theirs-a", weight=weight, target_weights=(), score=0.5, tta={"1": 0.5}, backbone="", semantic="", folds=0,
        epoch=0, curve=(),
    )  # fmt: skip


@pytest.mark.heavy
def test_external_members_take_part_with_what_is_given(blend: Blend, test: Dataset) -> None:
    given = {"theirs-a": from_components(np.random.default_rng(0).gamma(2.0, 10.0, (6, 3)))}
    halves = tuple(dataclasses.replace(m, weight=m.weight / 2) for m in blend.members)
    mixed = dataclasses.replace(blend, members=(external(0.5), *halves))
    expected = (given["theirs-a"] + predict(blend, test)) / 2
    np.testing.assert_allclose(predict(mixed, test, given=given), expected, atol=1e-9)
    detail = predict_in_detail(mixed, test, given=given)
    np.testing.assert_allclose(detail.predictions, expected, atol=1e-9)
    np.testing.assert_array_equal(detail.members[0], given["theirs-a"])
    with pytest.raises(InputError, match=r"member theirs-a was imported and has no models; .* --given theirs-a=FILE"):
        predict(mixed, test)


@pytest.mark.heavy
def test_weights_for_each_target_are_used_and_the_balance_kept(blend: Blend, test: Dataset) -> None:
    """Whole weights: each target of one member alone, so that the projection is needed."""
    columns = np.eye(3)[[0, 1, 2, 0, 1]].T
    members = tuple(
        dataclasses.replace(m, target_weights=tuple(w)) for m, w in zip(blend.members, columns.tolist(), strict=True)
    )
    mixed = dataclasses.replace(blend, members=members)
    detail = predict_in_detail(mixed, test)
    np.testing.assert_allclose(detail.predictions, predict(mixed, test), atol=1e-9)
    raw = np.stack([detail.members[i, :, t] for t, i in enumerate([0, 1, 2, 0, 1])], axis=1)
    assert np.abs(raw - detail.predictions).max() > 1e-3
    assert np.abs(detail.predictions[:, 4] - detail.predictions[:, :3].sum(axis=1)).max() < 1e-9


def test_the_files_have_a_row_for_every_target(blend: Blend, test: Dataset, tmp_path: Path) -> None:
    detail = predict_in_detail(blend, test)
    sure = dataclasses.replace(blend, conformal=Conformal(0.9, (1.0,) * 5, (0.5,) * 5))
    write_members(tmp_path / "m.csv", blend, test.ids, detail)
    members = pd.read_csv(tmp_path / "m.csv")
    assert list(members) == ["sample_id", "blend", *(m.key for m in blend.members)]
    np.testing.assert_allclose(members["blend"], detail.predictions.ravel(), atol=1e-5)
    assert members["sample_id"].tolist() == [f"{i}__{t}" for i in test.ids for t in TARGETS]
    write_uncertainty(tmp_path / "u.csv", sure, test.ids, detail)
    table = pd.read_csv(tmp_path / "u.csv")
    assert list(table) == ["sample_id", "target", "member_sd", "fold_sd", "tta_sd", "low", "high"]
    np.testing.assert_allclose(table["high"], 1.5 * table["target"] + 0.5, atol=1e-5)
    np.testing.assert_allclose(table["low"], (0.5 * table["target"] - 0.5).clip(0), atol=1e-5)
    write_uncertainty(tmp_path / "u.csv", dataclasses.replace(blend, conformal=None), test.ids, detail)
    assert "low" not in pd.read_csv(tmp_path / "u.csv")


def test_intervals_survive_the_folder(blend: Blend) -> None:
    content = json.loads((blend.folder / "blend.json").read_text())["conformal"]
    assert Blend.read(blend.folder).conformal == blend.conformal
    assert (content is None) == (blend.conformal is None)


def field(rng: np.random.Generator, dates: int, most: int = 12) -> tuple[Array, Array, Array]:
    """Truth, predictions and day: dates of 1 to 12 photographs, whose errors are mostly those of the date."""
    day = np.arange(dates).repeat(rng.integers(1, most + 1, dates))
    truth = from_components(rng.gamma(4.0, 1 / 4, (len(day), 3)) * [25.0, 10.0, 6.0])
    error = rng.normal(0, 0.25, (dates, 5))[day] + rng.normal(0, 0.1, (len(day), 5))
    return truth, (truth * (1 + error)).clip(0), day


@pytest.mark.parametrize("dates", [9, 28])
def test_intervals_cover_new_dates_at_their_level(dates: int) -> None:
    """Each of many draws is shown new dates; of every new date one photograph is judged, as the theorem promises.

    Taking all photographs as exchangeable (plain split conformal) would cover less than the level here.
    """
    covered, naive = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth, predictions, day = field(rng, dates)
        conformal = calibrate(truth, predictions[None], day)
        assert conformal is not None
        fresh, fresh_predictions, fresh_day = field(rng, dates=40)
        first = np.searchsorted(fresh_day, np.arange(40))
        low, high = conformal.bounds(fresh_predictions[first])
        covered.append(((low <= fresh[first]) & (fresh[first] <= high)).mean())
        scores = np.abs(truth - predictions) / (predictions + truth.mean(axis=0))
        offset = np.array(conformal.offset)
        half = np.quantile(scores, 0.9, axis=0, method="higher") * (fresh_predictions[first] + offset)
        naive.append((np.abs(fresh[first] - fresh_predictions[first]) <= half).mean())
    error = np.std(covered, ddof=1) / np.sqrt(len(covered))
    assert np.mean(covered) > 0.9 - 3 * error
    assert np.mean(covered) < 0.9 + 1 / (dates + 1) + 3 * error, "no wider than it takes"
    assert np.mean(naive) < np.mean(covered)


def test_intervals_need_enough_dates() -> None:
    rng = np.random.default_rng(0)
    for dates, known in ((8, False), (9, True)):
        truth, predictions, day = field(rng, dates)
        assert (calibrate(truth, predictions[None], day) is not None) == known
    truth, predictions, day = field(rng, 18)
    assert calibrate(truth, predictions[None], day, level=0.95) is None


def test_members_that_predict_their_spread_say_it(
    paddocks: Path, test: Dataset, frozen_recipe: Recipe, tmp_path: Path
) -> None:
    """One of two members is trained with the likelihood; with one element its spread is that of its models."""
    dataset, run = verify(read_train(paddocks)), RunFolder(tmp_path / "run")
    run.write_truth(dataset)
    context = TrialContext(dataset, torch.device("cpu"))
    recipes = [frozen_recipe.with_overrides({"loss.kind": "gaussian_nll", "schedule.epochs": 1}), frozen_recipe]
    for number, recipe in enumerate(recipes):
        trial = Trial(f"t{number:04d}", recipe, dataset, SequentialFolds(recipe, context))
        while not trial.done:
            trial.step()
        write_finished(run, trial)
        if not number:
            inputs = make_inputs(recipe, TrialContext(verify(test), torch.device("cpu")))
            with torch.inference_mode():
                batch = inputs.element(np.arange(len(test)), 0)
                learners = trial.executor.learners.values()  # type: ignore[attr-defined]
                spreads = torch.stack([learner.net.eval().spread(batch) for learner in learners])
            expected = spreads.square().mean(dim=0).sqrt().numpy()
    mixed = build([run], tmp_path / "blend", "none", "uniform")
    detail = predict_in_detail(mixed, test)
    np.testing.assert_allclose(detail.predicted_sd, expected, rtol=1e-3)
    assert np.ptp(expected, axis=0).min() > 0
    write_uncertainty(tmp_path / "u.csv", mixed, test.ids, detail)
    np.testing.assert_allclose(pd.read_csv(tmp_path / "u.csv")["predicted_sd"], expected.ravel(), rtol=1e-3)
