"""Parameter groups and learning rates."""

from __future__ import annotations

import math

import pytest
import torch

from trainables.network.tuning import set_tuning
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Schedule
from trainables.training.nets import create_net, widths
from trainables.training.optimizer import create_optimizer, rate_factor, set_learning_rates

RATES = {"head_lr": 0.02, "backbone_lr": 0.003, "weight_decay": 0.5}


@pytest.mark.parametrize("tuning", ["frozen", "last_blocks", "full"])
def test_groups(tuned_recipe: Recipe, tuning: str) -> None:
    recipe = tuned_recipe.with_overrides({"backbone": {"tuning": tuning, "blocks": 2}, "optimizer": RATES})
    net = create_net(recipe, widths(recipe))
    if net.backbone is not None:
        set_tuning(net.backbone, recipe.backbone, recipe.backbone.tuning)
    optimizer = create_optimizer(recipe.optimizer, recipe.stages[0], net)
    assert isinstance(optimizer, torch.optim.AdamW)
    names = {id(p): name for name, p in net.named_parameters()}
    grouped = [(names[id(p)], p, group) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(name for name, _, _ in grouped) == sorted(n for n, p in net.named_parameters() if p.requires_grad)
    assert any(name.startswith("backbone.") for name, _, _ in grouped) == (tuning != "frozen")
    for name, parameter, group in grouped:
        assert group["lr"] == group["base_lr"] == (0.003 if name.startswith("backbone.") else 0.02)
        assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_class_token_and_position_embedding_are_not_decayed(layer_decay: float) -> None:
    changes = {"backbone": {"name": "test_vit", "weights": "none", "tuning": "full"}, "view.size": 32}
    recipe = Recipe().with_overrides({**changes, "optimizer": {**RATES, "layer_decay": layer_decay}})
    net = create_net(recipe, widths(recipe))
    assert net.backbone is not None
    set_tuning(net.backbone, recipe.backbone, "full")
    optimizer = create_optimizer(recipe.optimizer, recipe.stages[0], net)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    exempt = {name for name, p in net.backbone.model.named_parameters() if id(p) not in decayed and p.ndim > 1}
    assert exempt == {"cls_token", "pos_embed"}


def test_rates_are_set_from_the_base_rate(tuned_recipe: Recipe) -> None:
    recipe = tuned_recipe.with_overrides({"optimizer": RATES})
    optimizer = create_optimizer(recipe.optimizer, recipe.stages[0], create_net(recipe, widths(recipe)))
    for factor in (0.5, 0.1):  # the second starts from the base again, not from the first
        set_learning_rates(optimizer, factor)
        assert {g["lr"] for g in optimizer.param_groups} == {0.02 * factor, 0.003 * factor}


@pytest.mark.parametrize(
    ("warmup", "floor", "step", "steps", "expected"),
    [
        (0.1, 0.0, 0, 20, 0.5),
        (0.1, 0.0, 1, 20, 1.0),
        (0.1, 0.0, 2, 20, 1.0),
        (0.1, 0.0, 11, 20, 0.5),
        (0.1, 0.2, 11, 20, 0.6),
        (0.1, 0.0, 8, 20, 0.75),
        (0.1, 0.0, 19, 20, 0.5 * (1 + math.cos(math.pi * 17 / 18))),
        (0.25, 0.0, 0, 20, 0.2),
        (0.25, 0.0, 3, 20, 0.8),
        (0.05, 0.0, 0, 5, 1.0),
        (0.0, 0.0, 0, 10, 1.0),
        (0.0, 1.0, 9, 10, 1.0),
        (0.99, 0.0, 0, 1, 1.0),
    ],
)
def test_warm_up_and_cosine_by_hand(warmup: float, floor: float, step: int, steps: int, expected: float) -> None:
    assert rate_factor(Schedule(warmup=warmup, floor=floor), step, steps, []) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.3, 0.99])
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_rates_rise_then_fall_within_bounds(warmup: float, steps: int) -> None:
    factors = [rate_factor(Schedule(warmup=warmup, floor=0.1), step, steps, []) for step in range(steps)]
    peak = factors.index(max(factors))
    assert max(factors) == 1
    assert all(0.0 < f <= 1 for f in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert all(f >= 0.1 for f in factors[peak:])
