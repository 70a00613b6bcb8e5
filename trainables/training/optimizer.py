"""Optimiser and learning rates of one stage of the training."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import nn

from trainables.network.model import BiomassNet
from trainables.network.tuning import layers
from trainables.recipe.sections import Optimizer, Schedule, Stage

_MOMENTUM: Final = 0.9
_PLATEAU_FACTOR: Final = 0.1


def create_optimizer(config: Optimizer, stage: Stage, net: BiomassNet) -> torch.optim.Optimizer:
    """An optimiser over what the stage trains: one rate for the backbone, falling towards its stem with layer decay,
    one for the rest; no decay for biases and norms."""
    assert stage.head_lr is not None
    assert stage.backbone_lr is not None
    behind = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    groups = _groups(behind, stage.head_lr, config.weight_decay)
    if net.backbone is not None:
        for rate, parameters in _by_layer(net, stage.backbone_lr, config.layer_decay):
            groups += _groups(parameters, rate, config.weight_decay)
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=stage.head_lr, momentum=_MOMENTUM, fused=True)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=stage.head_lr, fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `factor` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def rate_factor(config: Schedule, step: int, steps: int, scores: list[float]) -> float:
    """Share of the base learning rate at a step of a stage, after a linear warm-up.

    Args:
        config: kind, warm-up, floor.
        step: 0-based.
        steps: in the whole stage.
        scores: of the stage's epochs so far; what a plateau is seen by.
    """
    warm = math.ceil(config.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    if config.kind == "plateau":
        return max(config.floor, float(_PLATEAU_FACTOR ** plateaus(scores, config.patience)))
    progress = (step - warm) / max(1, steps - warm)
    if config.kind == "restarts":
        progress = progress * config.cycles % 1.0
    return config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def plateaus(scores: list[float], patience: int) -> int:
    """How often `patience` epochs have passed without a better score."""
    count, best, waited = 0, -math.inf, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
        if waited == patience:
            count, waited = count + 1, 0
    return count


def _by_layer(net: BiomassNet, rate: float, decay: float) -> list[tuple[float, list[nn.Parameter]]]:
    assert net.backbone is not None
    if decay == 1.0:
        return [(rate, list(net.backbone.parameters()))]
    parameters = dict(net.backbone.model.named_parameters())
    groups = layers(net.backbone)
    return [
        (rate * decay ** (len(groups) - 1 - i), [parameters[name] for name in names if name in parameters])
        for i, names in enumerate(groups)
    ]


def _groups(parameters: list[nn.Parameter], rate: float, decay: float) -> list[dict[str, object]]:
    trained = [p for p in parameters if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    groups = ((matrices, decay), (vectors, 0.0))
    return [{"params": g, "lr": rate, "base_lr": rate, "weight_decay": d} for g, d in groups if g]
