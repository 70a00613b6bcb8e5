"""Optimiser and learning rates of one stage of a training."""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from trainables.network.model import BiomassNet
from trainables.recipe.sections import Optimizer, Schedule, Stage

Groups = list[dict[str, Any]]

_MOMENTUM: Final = 0.9
_PLATEAU_FACTOR: Final = 0.1


def create_optimizer(config: Optimizer, stage: Stage, net: BiomassNet) -> torch.optim.Optimizer:
    """Create an optimiser of the parameters that a stage trains.

    The backbone and the rest have a learning rate each. With layer decay, the backbone's rate falls towards its stem.
    Biases, norms and what the model itself exempts (class token, position embeddings) have no weight decay.
    """
    assert stage.head_lr is not None
    assert stage.backbone_lr is not None
    rest = nn.ModuleList(child for name, child in net.named_children() if name != "backbone")
    groups = _at_rate(param_groups_weight_decay(rest, config.weight_decay), stage.head_lr)
    if net.backbone is not None:
        groups += _at_rate(_backbone_groups(net.backbone.model, config), stage.backbone_lr)
    if config.kind == "sgd":
        return torch.optim.SGD(groups, lr=stage.head_lr, momentum=_MOMENTUM, fused=True)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(groups, lr=stage.head_lr, fused=True)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set the learning rate of every group to `factor` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def rate_factor(config: Schedule, step: int, steps: int, scores: list[float]) -> float:
    """Factor of the base learning rate at a step of a stage: a linear warm-up, then the schedule.

    Args:
        config: the schedule.
        step: 0-based.
        steps: number of steps in the stage.
        scores: scores of the stage's epochs so far, for `kind=plateau`.
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
    """Number of times that `patience` epochs have passed without a better score."""
    count, best, waited = 0, -math.inf, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
        else:
            waited += 1
        if waited == patience:
            count, waited = count + 1, 0
    return count


def _backbone_groups(model: Any, config: Optimizer) -> Groups:
    exempt = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    groups: Groups
    if config.layer_decay == 1.0:  # two groups instead of two per layer: fewer kernels a step
        groups = param_groups_weight_decay(model, config.weight_decay, no_weight_decay_list=exempt)
    else:
        groups = param_groups_layer_decay(
            model, config.weight_decay, no_weight_decay_list=exempt, layer_decay=config.layer_decay
        )
    return groups


def _at_rate(groups: Groups, rate: float) -> Groups:
    """Groups of timm with learning rates: `base_lr`, the highest, and `lr`, the present one."""
    rates = [rate * group.get("lr_scale", 1.0) for group in groups]
    return [
        {"params": group["params"], "weight_decay": group["weight_decay"], "lr": rate, "base_lr": rate}
        for group, rate in zip(groups, rates, strict=True)
        if group["params"]
    ]
