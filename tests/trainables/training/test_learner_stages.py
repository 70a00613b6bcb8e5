"""Optimisation: stages, rates, adapters, accumulation, clipping, mixing, early stopping."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pasture.targets import TARGETS
from pasture.verification import VerifiedDataset
from trainables.compute.ranks import Ranks
from trainables.features.context import TrialContext
from trainables.features.inputs import Rows, make_inputs
from trainables.network.backbone import create_backbone
from trainables.network.model import Batch
from trainables.network.tuning import set_tuning
from trainables.recipe.backbone import Backbone
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Schedule
from trainables.training import learner as learners
from trainables.training.learner import FoldLearner, stage_of
from trainables.training.losses import Truth
from trainables.training.nets import Widths, create_net, widths
from trainables.training.optimizer import create_optimizer, plateaus, rate_factor
from trainables.trial import trial as trials
from trainables.trial.trial import Trial

ROWS = np.arange(12)
RATE = 1e-3
PLAIN = {
    "head": {"hidden": [8], "dropout": 0.0},
    "augment.strength": "none",
    "optimizer": {"kind": "sgd", "head_lr": RATE, "weight_decay": 0.0},
    "schedule": {"epochs": 1, "batch_size": 12, "warmup": 0.0},
}
"""One step of plain gradient descent without any noise."""

MakeLearner = Callable[..., FoldLearner]


@pytest.fixture
def make_learner(dataset: VerifiedDataset, cpu: torch.device) -> MakeLearner:
    """`make_learner(recipe, epochs=0)`: a learner of ROWS."""

    def make(recipe: Recipe, epochs: int = 0) -> FoldLearner:
        inputs = make_inputs(recipe, TrialContext(dataset, cpu))
        learner = FoldLearner(recipe, 0, widths(recipe), inputs, dataset, ROWS, cpu)
        for epoch in range(epochs):
            learner.train_epoch(epoch, [])
        return learner

    return make


def _staged(epochs: int, *shares: float) -> Recipe:
    stages = [{"share": share, "tuning": "frozen"} for share in shares]
    return Recipe.parse({"schedule": {"epochs": epochs, "stages": stages}})


@pytest.mark.parametrize(
    ("epochs", "shares", "expected"),
    [
        (20, (0.25, 0.75), [0] * 5 + [1] * 15),
        (7, (0.5, 0.5), [0] * 4 + [1] * 3),
        (5, (0.25, 0.75), [0] + [1] * 4),
        (3, (0.3, 0.3, 0.4), [0, 1, 2]),
        (1, (0.25, 0.75), [1]),  # a stage that gets no epoch
        (4, (1.0,), [0] * 4),
        (11, (1 / 3, 1 / 3, 1 / 3), [0] * 4 + [1] * 3 + [2] * 4),
    ],
)
def test_stage_boundaries(epochs: int, shares: tuple[float, ...], expected: list[int]) -> None:
    recipe = _staged(epochs, *shares)
    found = [stage_of(recipe, epoch) for epoch in range(epochs)]
    assert [stage for stage, _, _ in found] == expected
    for stage, first, last in found:
        assert expected.index(stage) == first
        assert last - first == expected.count(stage)


def test_each_stage_has_its_own_cosine(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    stages = [{"share": 0.5, "head_lr": 0.1}, {"share": 0.5, "head_lr": 0.01}]
    schedule = {"epochs": 4, "batch_size": 64, "warmup": 0.0, "floor": 0.2, "stages": stages}
    learner = make_learner(frozen_recipe.with_overrides({"schedule": schedule}))
    rates = []
    for epoch in range(4):
        learner.train_epoch(epoch, [])
        rates.append(learner.learning_rates()["head_lr"])
    assert rates == pytest.approx([0.1, 0.06, 0.01, 0.006])  # floor .2: half way down is .6


@pytest.mark.parametrize(
    ("scores", "patience", "expected"),
    [
        ([], 3, 0),
        ([1, 2, 3], 1, 0),
        ([3, 2, 1], 3, 0),
        ([3, 2, 1, 0], 3, 1),
        ([3, 3, 3, 3], 3, 1),  # as good is no better
        ([3, 2, 1, 4, 2, 2, 2], 3, 1),
        ([3, 2, 2, 2, 2, 2, 2], 3, 2),
        ([3, 2, 1], 1, 2),
    ],
)
def test_plateaus_by_hand(scores: list[float], patience: int, expected: int) -> None:
    assert plateaus(scores, patience) == expected
    schedule = Schedule(kind="plateau", patience=patience, warmup=0.0)
    assert rate_factor(schedule, 5, 10, scores) == pytest.approx(0.1**expected)
    held = Schedule(kind="plateau", patience=patience, warmup=0.0, floor=0.05)
    assert rate_factor(held, 5, 10, scores) == pytest.approx(max(0.05, 0.1**expected))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1.0), (2, 0.5), (3, 0.5 * (1 - 0.5**0.5)), (4, 1.0), (6, 0.5), (8, 1.0), (10, 0.5)],
)
def test_warm_restarts_by_hand(step: int, expected: float) -> None:
    # three cosines over twelve steps begin at 0, 4 and 8
    schedule = Schedule(kind="restarts", cycles=3, warmup=0.0)
    assert rate_factor(schedule, step, 12, []) == pytest.approx(expected)


def test_a_plateau_is_seen_by_the_trials_scores(
    make_trial: Callable[..., Trial], frozen_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.2, 0.2, 0.2])
    monkeypatch.setattr(trials, "weighted_r2", lambda *_: next(scores))
    schedule = {"kind": "plateau", "patience": 2, "warmup": 0.0, "epochs": 6}
    trial = make_trial(frozen_recipe.with_overrides({"schedule": schedule, "optimizer.head_lr": 0.1}), epochs=6)
    assert [report["head_lr"] for report in trial.curve] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_early_stopping_keeps_the_best_epoch(
    make_trial: Callable[..., Trial], frozen_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.3, 0.9])
    monkeypatch.setattr(trials, "weighted_r2", lambda *_: next(scores))
    trial = make_trial(
        frozen_recipe.with_overrides({"schedule": {"epochs": 20, "early_stopping": 3, "choose": "best"}})
    )
    while not trial.done:
        trial.step()
    assert len(trial.curve) == 5  # three epochs after the second without a better one
    oof = trial.finish()
    assert oof.metadata["epoch"] == 1
    assert oof.metadata["score"] == 0.3
    assert oof.predictions[:, 0] == pytest.approx(trial.epochs[1], abs=1e-5)
    assert oof.predictions[:, 0] != pytest.approx(trial.epochs[4], abs=1e-5)


def test_early_stopping_follows_the_scores_whatever_epoch_counts(
    make_trial: Callable[..., Trial], frozen_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.25, 0.3])
    monkeypatch.setattr(trials, "weighted_r2", lambda *_: next(scores))
    trial = make_trial(frozen_recipe.with_overrides({"schedule": {"epochs": 20, "early_stopping": 3}}))
    while not trial.done:
        trial.step()
    oof = trial.finish()
    assert (len(trial.curve), oof.metadata["epoch"]) == (5, 4)
    assert np.array_equal(oof.predictions[:, 0], trial.epochs[4])


def test_layer_decay_by_hand() -> None:
    recipe = Recipe.parse(
        {
            "view": {"size": 32},
            "backbone": {"name": "test_vit", "weights": "none", "tuning": "full"},
            "optimizer": {"layer_decay": 0.5, "backbone_lr": 0.64, "head_lr": 0.1},
        }
    )
    net = create_net(recipe, widths(recipe))
    assert net.backbone is not None
    set_tuning(net.backbone, recipe.backbone, "full")
    optimizer = create_optimizer(recipe.optimizer, recipe.stages[0], net)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    # six blocks behind the stem: .64, .32, .16, .08, .04, .02 and .01
    for name, parameter in net.named_parameters():
        part = name.removeprefix("backbone.model.")
        if not name.startswith("backbone."):
            expected = 0.1
        elif part.startswith("blocks."):
            expected = 0.64 * 0.5 ** (5 - int(part.split(".")[1]))
        else:
            expected = 0.64 if part.startswith("norm.") else 0.01
        assert rates[id(parameter)] == pytest.approx(expected), name


def _copy(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


LORA = {
    "backbone": {"name": "test_vit", "tuning": "lora", "lora": {"rank": 4, "alpha": 8}},
    "schedule.epochs": 2,
    "optimizer.backbone_lr": 0.01,
}


@pytest.mark.heavy
def test_lora_trains_and_saves_adapters_and_head_only(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    learner = make_learner(frozen_recipe.with_overrides(LORA))
    before = _copy(learner.net)
    for epoch in range(2):
        learner.train_epoch(epoch, [])
    after = _copy(learner.net)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    inside = {name for name in moved if name.startswith("backbone.")}
    assert inside
    assert all(".qkv.lora_" in name for name in inside)
    saved = learner.weights()
    adapters = {name: tensor for name, tensor in saved.items() if name.startswith("backbone.")}
    assert set(adapters) == inside
    # rank 4 beside qkv (64 to 192) in six blocks
    assert sum(tensor.numel() for tensor in adapters.values()) == 6 * (4 * 64 + 192 * 4)
    assert moved <= set(saved)
    assert learner.learning_rates()["backbone_lr"] > 0


def test_lora_on_chosen_matrices_of_the_last_blocks_is_saved_and_restored(
    make_learner: MakeLearner, frozen_recipe: Recipe
) -> None:
    part = {"rank": 2, "target_modules": ["proj", "mlp"], "blocks": 2}
    recipe = frozen_recipe.with_overrides({**LORA, "backbone.lora": part})
    learner = make_learner(recipe)
    before = learner.weights()
    learner.train_epoch(0, [])
    state, weights = copy.deepcopy(learner.state()), learner.weights()
    adapters = {name for name in weights if name.startswith("backbone.")}
    layers = {name.split(".lora_")[0] for name in adapters}
    assert layers == {
        f"backbone.model.blocks.{block}.{layer}" for block in (4, 5) for layer in ("attn.proj", "mlp.fc1", "mlp.fc2")
    }
    # 64 to 64, 64 to 192, 192 to 64; rank 2 on both sides; two blocks
    assert sum(weights[name].numel() for name in adapters) == 2 * 2 * (128 + 256 + 256)
    assert all(not torch.equal(before[name], weights[name]) for name in adapters)
    learner.train_epoch(1, [])
    restored = make_learner(recipe)
    restored.load_state(state)
    assert all(torch.equal(weights[name], tensor) for name, tensor in restored.weights().items())
    restored.train_epoch(1, [])
    assert np.array_equal(restored.predict(ROWS, (0, 5)), learner.predict(ROWS, (0, 5)))


def test_untrained_adapters_change_nothing(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    recipe = frozen_recipe.with_overrides(LORA)
    plain = make_learner(recipe.with_overrides({"backbone.tuning": "full"}))
    plain.net.fuse.load_state_dict((adapted := make_learner(recipe)).net.fuse.state_dict())
    plain.net.head.load_state_dict(adapted.net.head.state_dict())
    assert np.array_equal(adapted.predict(ROWS, (0, 5)), plain.predict(ROWS, (0, 5)))


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_gradient_checkpointing_changes_no_gradient(name: str) -> None:
    pictures = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for checkpointing in (False, True):
        config = Backbone(name=name, weights="none", gradient_checkpointing=checkpointing)
        backbone = create_backbone(config, 32).train()
        backbone(pictures).pow(2).sum().backward()
        gradients.append({n: p.grad for n, p in backbone.named_parameters() if p.grad is not None})
    plain, again = gradients
    assert plain.keys() == again.keys()
    for part, gradient in plain.items():
        torch.testing.assert_close(again[part], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()) + 1e-7)


def test_gradient_checkpointing_under_partial_tuning(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    # Frozen blocks before tuned ones: checkpointed blocks whose input needs no gradient must still give one.
    for tuning in ("last_blocks", "lora"):
        moved = []
        for checkpointing in (False, True):
            part = {"name": "test_vit", "tuning": tuning, "blocks": 2, "gradient_checkpointing": checkpointing}
            part["lora"] = {"dropout": 0.0}
            recipe = frozen_recipe.with_overrides({**PLAIN, "backbone": part, "optimizer.backbone_lr": 0.1})
            moved.append(make_learner(recipe, epochs=1).weights())
        for name, tensor in moved[0].items():
            torch.testing.assert_close(moved[1][name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("batch", "grad_accum_steps"), [(6, 2), (4, 3), (5, 3)])
def test_accumulated_batches_are_one_large_batch(
    make_learner: MakeLearner, frozen_recipe: Recipe, batch: int, grad_accum_steps: int
) -> None:
    recipe = frozen_recipe.with_overrides({**PLAIN, "loss.lds.enabled": True})
    parts = {"schedule.batch_size": batch, "optimizer.grad_accum_steps": grad_accum_steps}
    large, small = make_learner(recipe, epochs=1), make_learner(recipe.with_overrides(parts), epochs=1)
    start = make_learner(recipe).weights()
    assert small.steps_an_epoch == 1
    for name, tensor in large.weights().items():
        torch.testing.assert_close(small.weights()[name], tensor, rtol=1e-5, atol=1e-7)
    assert not torch.equal(start["head.networks.0.2.weight"], large.weights()["head.networks.0.2.weight"])


def _step(learner: FoldLearner) -> Tensor:
    before = torch.cat([p.detach().flatten().clone() for p in learner.net.parameters()])
    learner.train_epoch(0, [])
    return torch.cat([p.detach().flatten() for p in learner.net.parameters()]) - before


def test_clipping_keeps_the_direction_and_bounds_the_length(make_learner: MakeLearner, frozen_recipe: Recipe) -> None:
    # at a rate of 1 the step is the gradient
    recipe = frozen_recipe.with_overrides({**PLAIN, "target.transform": "none"}).with_overrides(
        {"optimizer.head_lr": 1}
    )
    free = _step(make_learner(recipe))
    norm = float(free.norm())
    clipped = _step(make_learner(recipe.with_overrides({"optimizer.clip_grad": norm / 4})))
    torch.testing.assert_close(clipped, free / 4, rtol=1e-3, atol=1e-4 * norm)
    loose = _step(make_learner(recipe.with_overrides({"optimizer.clip_grad": norm * 4})))
    assert torch.equal(loose, free)


class _Grams:
    """Inputs whose features are the weights in grams themselves."""

    semantic = None

    def __init__(self, grams: np.ndarray) -> None:
        self.grams = torch.tensor(grams, dtype=torch.float32)

    def training(self, batches: Sequence[Rows], generator: np.random.Generator, ranks: Ranks) -> Iterator[Batch]:
        """(n, 1, 5) each."""
        return (self.element(rows, 0) for rows in batches)

    def element(self, rows: Rows, element: int) -> Batch:
        """(n, 1, 5)."""
        return Batch(self.grams[torch.from_numpy(rows)].unsqueeze(1))


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_features_and_grams_are_mixed_with_the_same_share(
    dataset: VerifiedDataset, cpu: torch.device, monkeypatch: pytest.MonkeyPatch, probability: float
) -> None:
    recipe = Recipe.parse(
        {
            "view": {"kind": "whole"},
            "backbone": {"standardize": False},
            "head": {"hidden": [], "norm": False, "dropout": 0.0},
            "target": {"transform": "none"},
            "augment": {"mixup": {"probability": probability, "alpha": 0.4}},
            "schedule": {"batch_size": 5},
        }
    )
    images = dataset.images.copy()
    rows = np.arange(5)
    images.loc[images.index[rows], list(TARGETS)] = 100 * np.eye(5)  # each image all of one target
    corners = replace(dataset, images=images)
    learner = FoldLearner(recipe, 0, Widths(5), _Grams(corners.targets), corners, rows, cpu)
    seen: list[tuple[Tensor, Tensor]] = []

    def loss(_: Any, __: Any, encoded: Tensor, truth: Truth, ___: Tensor | None) -> Tensor:
        seen.append((truth.grams, encoded.detach()[:, 0]))
        return encoded.sum() * 0

    monkeypatch.setattr(learners, "loss", loss)
    learner.optimizer.param_groups.clear()
    with torch.no_grad():  # the head repeats its features
        learner.net.head.networks[0][-1].weight.copy_(torch.eye(5))  # type: ignore[index, operator, union-attr]
        learner.net.head.networks[0][-1].bias.zero_()  # type: ignore[index, operator, union-attr]
    for epoch in range(20):
        learner.train_epoch(epoch, [])
    mixed = 0
    for grams, features in seen:
        torch.testing.assert_close(features, grams)
        torch.testing.assert_close(grams.sum(dim=1), torch.full((5,), 100.0))
        share = float(grams.amax(dim=1).min())  # of an image that was not mixed with itself
        assert share >= 50.0
        assert all(value == pytest.approx(share, rel=1e-4) or value > 99.99 for value in grams.amax(dim=1).tolist())
        mixed += share < 99.99
    assert {0.0: mixed == 0, 0.5: 2 <= mixed <= 18, 1.0: mixed >= 10}[probability]
