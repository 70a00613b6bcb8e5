"""Defects of the published systems (RECIPES.md): each test here would fail if ours had them too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pasture.folds import held_out_rows, make_folds, training_rows
from pasture.targets import TARGETS, TOTAL
from pasture.verification import VerifiedDataset
from search_spaces.catalogue import load_recipe
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.images import d4
from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe
from trainables.training.lds import lds_weights
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths
from trainables.trial.trial import Trial

ROWS = np.arange(0, 24, 2)
HELD = np.arange(1, 24, 2)
RATE = 1e-3
ONE_PLAIN_STEP = {
    "optimizer": {"kind": "sgd", "head_lr": RATE, "weight_decay": 0.0},
    "schedule": {"epochs": 1, "batch_size": 64, "warmup": 0.0},
}
"""One step of plain gradient descent, so that what the weights move by is the gradient."""

MakeLearner = Callable[..., FoldLearner]


@pytest.fixture
def make_learner(dataset: VerifiedDataset, cpu: torch.device) -> MakeLearner:
    """`make_learner(recipe, data=dataset, epochs=0)`: a learner of ROWS."""

    def make(recipe: Recipe, data: VerifiedDataset = dataset, epochs: int = 0) -> FoldLearner:
        learner = FoldLearner(
            recipe, 0, widths(recipe), make_inputs(recipe, TrialContext(dataset, cpu)), data, ROWS, cpu
        )
        for epoch in range(epochs):
            learner.train_epoch(epoch, [])
        return learner

    return make


@pytest.fixture(scope="session")
def two_stream() -> Recipe:
    """The preset on a tiny ConvNeXt: one epoch of the first stage, two of the second."""
    small = {"backbone.name": "test_convnext", "backbone.weights": "none", "view.size": 32}
    return load_recipe("two_stream").with_overrides(small | {"schedule": {"epochs": 4, "batch_size": 8}})


def _copy(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def _moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def _changed(dataset: VerifiedDataset, rows: np.ndarray, **columns: Any) -> VerifiedDataset:
    """The dataset with other values in some rows."""
    images = dataset.images.copy()
    for column, values in columns.items():
        images.loc[images.index[rows], column] = values
    return replace(dataset, images=images)


def _nonsense(dataset: VerifiedDataset, rows: np.ndarray) -> VerifiedDataset:
    """Everything that some rows say, replaced."""
    grams = dict.fromkeys(TARGETS, 777.0)
    return _changed(dataset, rows, ndvi=-5.0, height_cm=1e4, species="Triffid_Weed", date="1999-09-09", **grams)


def _gradient(learner: FoldLearner) -> dict[str, Tensor]:
    before = _copy(learner.net)
    learner.train_epoch(0, [])
    return {name: (before[name] - after) / RATE for name, after in _copy(learner.net).items()}


# two_stream: "stage 2 never trains the backbone, because the optimiser was built once with the head's parameters"


def test_the_backbone_moves_in_stage_2_and_not_in_stage_1(make_learner: MakeLearner, two_stream: Recipe) -> None:
    learner = make_learner(two_stream)
    parameters = {f"backbone.{name}" for name, _ in learner.net.backbone.named_parameters()}  # type: ignore[union-attr]
    heads = {name for name, _ in learner.net.named_parameters()} - parameters
    start = _copy(learner.net)
    learner.train_epoch(0, [])
    first = _copy(learner.net)
    assert _moved(start, first) == heads
    learner.train_epoch(1, [])
    assert _moved(first, _copy(learner.net)) == heads | parameters


def test_the_optimiser_of_stage_2_holds_the_backbone(make_learner: MakeLearner, two_stream: Recipe) -> None:
    learner = make_learner(two_stream)
    held = []
    for epoch in range(2):
        learner.train_epoch(epoch, [])
        held.append({id(p) for group in learner.optimizer.param_groups for p in group["params"]})
    backbone = {id(p) for p in learner.net.backbone.parameters()}  # type: ignore[union-attr]
    everything = {id(p) for p in learner.net.parameters()}
    assert held == [everything - backbone, everything]


@pytest.mark.heavy
def test_a_trial_restored_into_stage_2_trains_the_backbone_too(
    make_trial: Callable[..., Trial], two_stream: Recipe
) -> None:
    recipe = two_stream.with_overrides({"validation.folds": 2})
    trial = make_trial(recipe, epochs=2)
    other = make_trial(recipe)
    other.load_state(trial.state())
    before = other.executor.learners[0].weights()
    for running in (trial, other):
        running.step()
    after = other.executor.learners[0].weights()
    assert any(name.startswith("backbone.") for name in _moved(before, after))
    assert not _moved(trial.executor.learners[0].weights(), after)


def test_what_stage_2_moved_is_saved(make_learner: MakeLearner, two_stream: Recipe) -> None:
    learner = make_learner(two_stream, epochs=2)
    fresh = make_learner(two_stream)
    fresh.load_weights(learner.weights())
    assert not _moved(_copy(learner.net), _copy(fresh.net))


# crop_attention_distilled: "the public code never passes the teacher's prediction"


@pytest.mark.heavy
def test_the_teacher_changes_the_students_gradient(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    plain = frozen_recipe.with_overrides({**ONE_PLAIN_STEP, "head.dropout": 0.0})
    gradients = {w: _gradient(make_learner(plain.with_overrides({"loss.distillation": w}))) for w in (0.0, 0.5, 1.0)}
    pull = {name: gradients[0.5][name] - gradient for name, gradient in gradients[0.0].items()}
    assert max(float(p.abs().max()) for p in pull.values()) > 1e-3
    for name, part in pull.items():  # the term is weighted as the recipe says
        torch.testing.assert_close(gradients[1.0][name] - gradients[0.0][name], 2 * part, rtol=1e-2, atol=1e-3)


@pytest.mark.heavy
def test_what_the_teacher_is_told_reaches_the_student(
    make_learner: MakeLearner, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    other = _changed(dataset, ROWS, ndvi=np.linspace(0.9, 0.1, len(ROWS)))
    for weight, reaches in ((0.5, True), (0.0, False)):
        recipe = frozen_recipe.with_overrides({"loss.distillation": weight})
        before, after = make_learner(recipe, epochs=1), make_learner(recipe, other, epochs=1)
        assert bool(_moved(before.weights(), after.weights())) == reaches


@pytest.mark.heavy
def test_the_teacher_and_every_statistic_see_the_training_fold_only(
    make_learner: MakeLearner, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    terms = {
        "loss": {
            "distillation": 0.5,
            "auxiliary": 0.1,
            "lds.enabled": True,
            "intervals.weight": 0.3,
            "state": 0.1,
            "species": 0.1,
        },
        "target.transform": "log1p_z",
    }
    recipe = frozen_recipe.with_overrides(terms)
    honest, blind = make_learner(recipe), make_learner(recipe, _nonsense(dataset, HELD))
    for part, same in zip(honest.truth, blind.truth, strict=True):
        assert part is not None
        torch.testing.assert_close(part, same, rtol=0, atol=0, equal_nan=True)
    assert not _moved(_copy(honest.net), _copy(blind.net))
    for learner in (honest, blind):
        learner.train_epoch(0, [])
    assert not _moved(_copy(honest.net), _copy(blind.net))


# dinov2_small_unfrozen: "statistics of the training fold only: the public code uses all data"


def test_statistics_are_those_of_the_training_fold(
    make_learner: MakeLearner, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    recipe = frozen_recipe.with_overrides({"target.transform": "log1p_z", "loss.lds.enabled": True})
    learner = make_learner(recipe)
    grams = dataset.targets
    logs = np.log1p(grams[ROWS])
    assert learner.net.codec.mean.numpy() == pytest.approx(logs.mean(axis=0), rel=1e-5)
    assert learner.net.codec.std.numpy() == pytest.approx(logs.std(axis=0), rel=1e-5)
    assert learner.net.codec.mean.numpy() != pytest.approx(np.log1p(grams).mean(axis=0), rel=1e-3)
    expected = lds_weights(grams[ROWS, TOTAL], recipe.loss.lds)
    assert learner.truth.image_weights.numpy() == pytest.approx(expected, rel=1e-5)


def test_the_untrained_head_says_the_mean_of_the_training_fold(
    make_learner: MakeLearner, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    linear = {"head": {"hidden": (), "norm": False}, "target.transform": "none"}
    learner = make_learner(frozen_recipe.with_overrides(linear))
    bias = learner.net.head.networks[0][-1].bias.detach().numpy()
    assert bias == pytest.approx(dataset.targets[ROWS].mean(axis=0), rel=1e-5)
    assert bias != pytest.approx(dataset.targets.mean(axis=0), rel=1e-3)


# tiled_film: a FiLM for the left, one for the right


def _film(**fields: Any) -> BiomassNet:
    recipe = load_recipe("tiled_film").with_overrides({"head.dropout": 0.0, **fields})
    torch.manual_seed(0)
    return BiomassNet(recipe, 16)


def test_film_receives_gradient_on_each_side() -> None:
    net = _film()
    views = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(1))
    net(Batch(views)).sum().backward()
    left, right = (dict(side.named_parameters()) for side in net.fuse.within)
    assert not {id(p) for p in left.values()} & {id(p) for p in right.values()}
    for name in left:
        for parameter in (left[name], right[name]):
            assert parameter.grad is not None
            assert parameter.grad.abs().max() > 0, name
        assert not torch.equal(left[name].grad, right[name].grad)


@pytest.mark.parametrize("side", [0, 1])
def test_the_film_of_one_side_knows_nothing_of_the_other(side: int) -> None:
    net = _film()
    views = torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(1))
    net.embed(Batch(views))[:, 0, side * 16 : (side + 1) * 16].sum().backward()
    for number, film in enumerate(net.fuse.within):
        for parameter in film.parameters():
            touched = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
            assert touched == (number == side)


def test_training_moves_both_films(make_learner: MakeLearner) -> None:
    small = {"backbone.name": "test_efficientnet", "backbone.weights": "none", "view.size": 32, "schedule.epochs": 4}
    learner = make_learner(load_recipe("tiled_film").with_overrides(small))
    before = _copy(learner.net)
    for epoch in range(2):
        learner.train_epoch(epoch, [])
        films = {n for n, _ in learner.net.named_parameters() if n.startswith("fuse.within")}
        assert len(films) == 8
        assert films <= _moved(before, before := _copy(learner.net))


# multi_tile: "the public code saves the EMA without ever using it"


@pytest.fixture
def ema_recipe(frozen_recipe: Recipe) -> Recipe:
    """One step an epoch under an average that falls behind."""
    return frozen_recipe.with_overrides(
        {"optimizer.ema": 0.25, "optimizer.head_lr": 0.05, "schedule": {"epochs": 6, "batch_size": 64}}
    )


def test_the_average_is_what_is_saved(make_learner: MakeLearner, ema_recipe: Recipe) -> None:
    learner = make_learner(ema_recipe)
    average: dict[str, Tensor] = {}
    for step in range(5):
        learner.train_epoch(step, [])
        net = _copy(learner.net)
        decay = min(0.25, (1 + step) / (10 + step)) if step else 0.0  # the first update takes the weights over
        average = {n: decay * average[n] + (1 - decay) * net[n] for n in net} if step else net
    saved = learner.weights()
    for name, tensor in average.items():
        torch.testing.assert_close(saved[name], tensor, rtol=1e-5, atol=1e-6)
    assert {name for name, _ in learner.net.head.named_parameters(prefix="head")} <= _moved(saved, _copy(learner.net))


def test_the_average_is_what_is_evaluated(make_learner: MakeLearner, ema_recipe: Recipe) -> None:
    learner = make_learner(ema_recipe, epochs=4)
    predicted = learner.predict(HELD, d4.FLIPS)
    plain = make_learner(ema_recipe.with_overrides({"optimizer.ema": 0.0}))
    plain.load_weights(learner.weights())
    assert np.array_equal(plain.predict(HELD, d4.FLIPS), predicted)
    plain.load_weights(_copy(learner.net))
    assert np.abs(plain.predict(HELD, d4.FLIPS) - predicted).max() > 1e-3


def test_a_trial_is_scored_and_saved_by_the_average(make_trial: Callable[..., Trial], ema_recipe: Recipe) -> None:
    trial = make_trial(ema_recipe, epochs=6)
    learner = trial.executor.learners[0]
    rows = held_out_rows(trial.folds, 0)
    trial.finish()
    kept = trial.executor.kept(0)
    learner.load_weights(kept)
    assert np.array_equal(learner.predict(rows, (d4.IDENTITY,))[:, 0], trial.epochs[trial.best_epoch][rows])
    assert _moved(kept, {name: _copy(learner.net)[name] for name in kept})


# lightning_halves: "the original also splits rows, not images"


@pytest.mark.parametrize("splitter", ["stratified_group", "group", "image", "holdout"])
def test_rows_of_an_image_are_never_on_both_sides(
    dataset: VerifiedDataset, splitter: Any, make_trial: Callable[..., Trial]
) -> None:
    folds = make_folds(dataset, splitter, 3, 42)
    for fold in range(int(folds.max()) + 1):
        trained, held = training_rows(folds, fold), held_out_rows(folds, fold)
        assert not set(trained) & set(held)
        assert sorted([*trained, *held]) == list(range(len(dataset)))


def test_both_halves_of_an_image_are_on_one_side(dataset: VerifiedDataset, make_trial: Callable[..., Trial]) -> None:
    small = {"backbone.name": "test_efficientnet", "backbone.weights": "none", "view.size": 32}
    trial = make_trial(load_recipe("lightning_halves").with_overrides(small))
    (learner,) = trial.executor.learners.values()
    held = set(held_out_rows(trial.folds, 0))
    assert len(held) == 5  # a fifth of 24, rounded up: images, not their 48 halves or 120 rows
    assert not held & set(learner.rows)
    batch = next(learner.inputs.training([learner.rows[:3]], np.random.default_rng(0)))
    assert batch.views.shape == (3, 2, 32, 32, 3)  # an image is one row of a batch, its halves are inside
    assert learner.truth.grams.numpy() == pytest.approx(dataset.targets[learner.rows], rel=1e-5)
