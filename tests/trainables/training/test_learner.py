"""One fold: what it may see, what it changes, what it saves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pasture.errors import JobError
from pasture.targets import TARGETS, TOTAL, balance_gap
from pasture.verification import VerifiedDataset
from trainables.compute.ranks import Ranks
from trainables.features.context import TrialContext
from trainables.features.inputs import Rows, make_inputs
from trainables.images import d4
from trainables.network.model import Batch
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import LabelSmoothing
from trainables.training.lds import lds_weights
from trainables.training.learner import FoldLearner
from trainables.training.nets import create_net, load_weights, widths

ROWS = np.arange(0, 24, 2)
HELD = np.arange(1, 24, 2)
FITTED = {"loss.lds.enabled": True, "target.transform": "log1p_z", "loss.consistency": 0.1}
"""Everything that takes statistics from the labels."""

MakeLearner = Callable[..., FoldLearner]


@pytest.fixture
def make_learner(dataset: VerifiedDataset, cpu: torch.device) -> MakeLearner:
    """`make_learner(recipe, data=dataset, epochs=0, fold=0)`: a learner of ROWS."""

    def make(recipe: Recipe, data: VerifiedDataset = dataset, epochs: int = 0, fold: int = 0) -> FoldLearner:
        inputs = make_inputs(recipe, TrialContext(dataset, cpu))
        learner = FoldLearner(recipe, fold, widths(recipe), inputs, data, ROWS, cpu)
        for epoch in range(epochs):
            learner.train_epoch(epoch, [])
        return learner

    return make


def _relabelled(dataset: VerifiedDataset, grams: np.ndarray) -> VerifiedDataset:
    images = dataset.images.copy()
    images[list(TARGETS)] = grams
    return replace(dataset, images=images)


def _same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(t, second[n]) for n, t in first.items())


def test_twice_is_the_same_bit_for_bit(make_learner: MakeLearner, either_recipe: Recipe) -> None:
    recipe = either_recipe.with_overrides(FITTED)
    first = make_learner(recipe, epochs=2)
    torch.manual_seed(12)
    np.random.seed(12)
    second = make_learner(recipe, epochs=2)
    assert _same(first.weights(), second.weights())
    assert np.array_equal(first.predict(HELD, d4.ALL), second.predict(HELD, d4.ALL))


@pytest.mark.parametrize("change", ["seed", "fold"])
def test_seed_and_fold_decide(make_learner: MakeLearner, frozen_recipe: Recipe, change: str) -> None:
    first = make_learner(frozen_recipe)
    recipe = frozen_recipe.with_overrides({"seed": 1}) if change == "seed" else frozen_recipe
    assert not _same(first.weights(), make_learner(recipe, fold=int(change == "fold")).weights())


def test_held_out_targets_are_not_looked_at(
    make_learner: MakeLearner, either_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    recipe = either_recipe.with_overrides(FITTED)
    nonsense = dataset.targets.copy()
    nonsense[HELD] = np.nan
    nonsense[HELD[::2]] = 1e7
    honest = make_learner(recipe, epochs=2).weights()
    assert _same(honest, make_learner(recipe, _relabelled(dataset, nonsense), epochs=2).weights())
    # Those of the training rows are: one changed label changes the weights.
    other = dataset.targets.copy()
    other[ROWS[3]] *= 2
    assert not _same(honest, make_learner(recipe, _relabelled(dataset, other), epochs=2).weights())


def test_held_out_pictures_are_not_looked_at(make_learner: MakeLearner, either_recipe: Recipe) -> None:
    learner = make_learner(either_recipe)
    seen: list[int] = []
    training = learner.inputs.training

    def spy(batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks) -> Iterator[Batch]:
        seen.extend(np.concatenate(batches).tolist())
        return training(batches, generator, ranks)

    learner.inputs.training = spy  # type: ignore[method-assign]
    for epoch in range(2):
        seen.clear()
        learner.train_epoch(epoch, [])
        assert sorted(seen) == ROWS.tolist(), "an epoch shows every training row once"


def test_batches_have_nearly_the_same_size(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    # Twelve rows in batches of at most 11 are two of six, not 11 and 1.
    learner = make_learner(frozen_recipe.with_overrides({"schedule.batch_size": 11}))
    sizes: list[int] = []
    training = learner.inputs.training
    learner.inputs.training = lambda batches, *rest: (sizes.extend(map(len, batches)), training(batches, *rest))[1]  # type: ignore
    learner.train_epoch(0, [])
    assert sizes == [6, 6]
    assert learner.steps_an_epoch == 2


@pytest.mark.heavy
def test_it_starts_at_the_mean_and_learns(
    make_learner: MakeLearner, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    recipe = frozen_recipe.with_overrides(
        {
            "schedule.epochs": 150,
            "head": {"hidden": [64], "dropout": 0.0},
            "augment.strength": "none",
            "target.transform": "none",
            "loss.kind": "mse",
        }
    )
    learner = make_learner(recipe)
    last = learner.net.head.networks[0][-1]
    np.testing.assert_allclose(last.bias.detach(), dataset.targets[ROWS].mean(axis=0), rtol=1e-5)  # type: ignore
    losses = [learner.train_epoch(epoch, []) for epoch in range(150)]
    assert losses[-1] < 0.25 * losses[0]
    truth = dataset.targets[ROWS, TOTAL]
    assert np.corrcoef(learner.predict(ROWS, (0,))[:, 0, TOTAL], truth)[0, 1] > 0.9


def test_the_loss_is_the_mean_over_images(
    make_learner: MakeLearner, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    # Rates so low that nothing moves, no dropout, no augmentation: the loss of an epoch is that of the network.
    recipe = frozen_recipe.with_overrides(
        {"optimizer.head_lr": 1e-12, "head.dropout": 0.0, "augment.strength": "none", "schedule.batch_size": 5}
    )
    from trainables.training.losses import loss

    learner = make_learner(recipe)
    value = learner.train_epoch(0, [])
    with torch.no_grad():
        predicted = learner.net.eval()(learner.inputs.element(ROWS, 0))
    by_hand = loss(recipe.loss, learner.net.codec, predicted, learner.truth)
    assert value == pytest.approx(by_hand.item(), rel=1e-5)


def test_predictions_are_projected_and_one_for_each_element(make_learner: MakeLearner, either_recipe: Recipe) -> None:
    learner = make_learner(either_recipe, epochs=1)
    predictions = learner.predict(HELD, d4.ALL)
    assert predictions.shape == (12, 8, 5)
    assert (predictions >= 0).all()
    assert balance_gap(predictions).max() < 1e-9
    for element in (0, 3, 6):
        assert np.allclose(learner.predict(HELD, (element,))[:, 0], predictions[:, element], rtol=1e-5)
        assert np.allclose(learner.predict(HELD[::-1].copy(), (element,))[::-1, 0], predictions[:, element], rtol=1e-4)
    assert not np.allclose(predictions[:, 0], predictions[:, 1])


def test_predicting_changes_nothing(make_learner: MakeLearner, either_recipe: Recipe) -> None:
    quiet, asked = make_learner(either_recipe), make_learner(either_recipe)
    for epoch in range(2):
        quiet.train_epoch(epoch, [])
        asked.train_epoch(epoch, [])
        asked.predict(HELD, d4.ALL)
    assert _same(quiet.weights(), asked.weights())


@pytest.mark.parametrize("tuning", ["frozen", "last_blocks", "full"])
def test_frozen_names_are_exactly_what_training_leaves_alone(
    make_learner: MakeLearner, tuned_recipe: Recipe, tuning: str
) -> None:
    recipe = tuned_recipe.with_overrides({"backbone": {"tuning": tuning, "blocks": 2}})
    learner = make_learner(recipe)
    before = {n: t.clone() for n, t in learner.net.state_dict().items()}
    learner.train_epoch(0, [])
    learner.train_epoch(1, [])
    after = learner.net.state_dict()
    in_backbone = {n for n in after if n.startswith("backbone.")}
    untouched = {n for n in in_backbone if torch.equal(after[n], before[n])}
    assert untouched == in_backbone - learner.names
    assert bool(in_backbone) == (tuning != "frozen")
    assert bool(untouched) == (tuning == "last_blocks")
    assert set(learner.weights()) == set(after) - untouched
    assert not any(torch.equal(after[n], before[n]) for n in after if n.startswith("head."))


@pytest.mark.parametrize("tuning", ["frozen", "last_blocks", "full"])
def test_saved_weights_give_the_same_predictions(
    make_learner: MakeLearner, tuned_recipe: Recipe, dataset: VerifiedDataset, tuning: str
) -> None:
    recipe = tuned_recipe.with_overrides({"backbone": {"tuning": tuning, "blocks": 2}, "target.transform": "log1p_z"})
    trained = make_learner(recipe, epochs=2)
    weights = trained.weights()
    expected = trained.predict(HELD, d4.ALL)
    fresh = make_learner(
        recipe, _relabelled(dataset, np.full((24, 5), 3.0))
    )  # other statistics, which the weights must replace
    assert not np.allclose(fresh.predict(HELD, d4.ALL), expected)
    fresh.load_weights(weights)
    assert np.array_equal(fresh.predict(HELD, d4.ALL), expected)
    # What was given is a copy, not what goes on being trained.
    kept = {n: t.clone() for n, t in weights.items()}
    trained.train_epoch(2, [])
    assert _same(weights, kept)


def test_a_blend_gives_the_backbone_and_the_fold_the_rest(make_learner: MakeLearner, tuned_recipe: Recipe) -> None:
    recipe = tuned_recipe.with_overrides({"backbone": {"tuning": "last_blocks", "blocks": 1}})
    trained = make_learner(recipe, epochs=1)
    pretrained = create_net(recipe, widths(recipe)).backbone
    assert pretrained is not None
    elsewhere = recipe.with_overrides({"backbone.weights": "hub"})
    net = create_net(elsewhere, widths(recipe), pretrained.model.state_dict())
    load_weights(net, trained.weights(), trained.names)
    assert _same(net.state_dict(), trained.net.state_dict())


@pytest.mark.parametrize("damage", ["missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_are_a_job_error(make_learner: MakeLearner, either_recipe: Recipe, damage: str) -> None:
    learner = make_learner(either_recipe)
    weights = learner.weights()
    name = [n for n in weights if n.startswith("head.")][-1]
    if damage == "missing":
        del weights[name]
    elif damage == "unexpected":
        weights["head.99.weight"] = torch.zeros(1)
    else:
        weights[name] = torch.zeros(1)
    with pytest.raises(JobError, match="do not fit") as caught:
        learner.load_weights(weights)
    assert ("head.99.weight" if damage == "unexpected" else name) in str(caught.value)


def test_a_state_continues_bit_for_bit(make_learner: MakeLearner, either_recipe: Recipe) -> None:
    undisturbed = make_learner(either_recipe, epochs=3)
    state = make_learner(either_recipe, epochs=1).state()
    other = make_learner(either_recipe)
    other.load_state(state)
    for epoch in (1, 2):
        other.train_epoch(epoch, [])
    assert _same(other.weights(), undisturbed.weights())


def test_rates_are_those_of_the_last_step(make_learner: MakeLearner, tuned_recipe: Recipe) -> None:
    recipe = tuned_recipe.with_overrides({"schedule": {"warmup": 0.0, "epochs": 2, "batch_size": 12}})
    learner = make_learner(recipe)
    learner.train_epoch(0, [])
    assert learner.learning_rates() == pytest.approx({"head_lr": 0.01, "backbone_lr": 0.003})
    learner.train_epoch(1, [])
    assert learner.learning_rates() == pytest.approx({"head_lr": 0.005, "backbone_lr": 0.0015})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_a_job_error(
    make_learner: MakeLearner, frozen_recipe: Recipe, value: float
) -> None:
    learner = make_learner(frozen_recipe, fold=2)
    with torch.no_grad():
        learner.net.head.networks[0][-1].bias.fill_(value)  # type: ignore[union-attr, operator]
    with pytest.raises(JobError, match="fold 2, epoch 1: the loss is"):
        learner.train_epoch(0, [])


def test_a_prediction_that_is_not_finite_is_a_job_error(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    learner = make_learner(frozen_recipe, fold=2)
    with torch.no_grad():
        learner.net.head.networks[0][-1].bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(JobError, match="fold 2: a prediction is not finite"):
        learner.predict(HELD, (0,))


def test_label_smoothing_weighs_images(
    make_learner: MakeLearner, frozen_recipe: Recipe, dataset: VerifiedDataset
) -> None:
    assert make_learner(frozen_recipe).truth.image_weights.tolist() == [1.0] * 12
    weights = make_learner(frozen_recipe.with_overrides({"loss.lds.enabled": True})).truth.image_weights
    assert weights.mean().item() == pytest.approx(1)
    expected = lds_weights(dataset.targets[ROWS, TOTAL], LabelSmoothing())
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


@pytest.mark.heavy
def test_a_compiled_backbone_learns_the_same(
    make_learner: MakeLearner, tuned_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[nn.Module] = []
    compile_module = nn.Module.compile

    def traced(module: nn.Module) -> None:
        compiled.append(module)
        compile_module(module, backend="eager")  # traced as ever, without a C++ compiler

    plain = make_learner(tuned_recipe, epochs=1)
    monkeypatch.setattr(nn.Module, "compile", traced)
    learner = make_learner(tuned_recipe.with_overrides({"backbone.compile": True, "optimizer.ema": 0.9}), epochs=1)
    assert compiled == [learner.net.backbone]
    for name, tensor in plain.weights().items():
        torch.testing.assert_close(learner.net.state_dict()[name], tensor, rtol=1e-4, atol=1e-5)
    learner.predict(HELD, d4.ALL)
