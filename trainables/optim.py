"""Optimiser and learning rates."""

from __future__ import annotations

import math

import torch
from torch import nn

from trainables.model import BiomassNet
from trainables.recipe import Optimizer, Schedule


def create_optimizer(config: Optimizer, net: BiomassNet) -> torch.optim.Optimizer:
    """AdamW over what is trained: one rate for the backbone, one for the rest; no decay for biases and norms."""
    behind = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    groups = _groups(behind, config.head_lr, config.weight_decay)
    if net.backbone is not None:
        groups += _groups(list(net.backbone.parameters()), config.backbone_lr, config.weight_decay)
    fused = next(net.parameters()).is_cuda
    return torch.optim.AdamW(groups, fused=fused)


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to `factor` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def rate_factor(config: Schedule, step: int, steps: int) -> float:
    """Share of the base learning rate at a step: a linear warm-up, then a cosine down to the floor.

    Args:
        config: warm-up and floor.
        step: 0-based.
        steps: in the whole training.
    """
    warm = math.ceil(config.warmup * steps)
    if step < warm:
        return (step + 1) / warm
    progress = (step - warm) / max(1, steps - warm)
    return config.floor + (1 - config.floor) * 0.5 * (1 + math.cos(math.pi * progress))


def _groups(parameters: list[nn.Parameter], rate: float, decay: float) -> list[dict[str, object]]:
    trained = [p for p in parameters if p.requires_grad]
    matrices = [p for p in trained if p.ndim > 1]
    vectors = [p for p in trained if p.ndim <= 1]
    groups = ((matrices, decay), (vectors, 0.0))
    return [{"params": g, "lr": rate, "base_lr": rate, "weight_decay": d} for g, d in groups if g]
