"""An exponential moving average of a network's weights and running statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """A copy of `net` that follows it, update by update.

    The decay rises as (1 + t) / (10 + t) to its value: a search of a few hundred steps would otherwise still hold the
    initial weights at its end.
    """

    def follow(average: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
        t = float(updates)
        step = 1 - min(decay, (1 + t) / (10 + t))
        pairs = list(zip(average, current, strict=True))
        floats = [pair for pair in pairs if torch.is_floating_point(pair[0])]
        # One call for all: on a GPU a call a tensor takes longer than the arithmetic.
        torch._foreach_lerp_([old for old, _ in floats], [new for _, new in floats], step)
        for old, new in pairs:
            if not torch.is_floating_point(old):
                old.copy_(new)

    return AveragedModel(net, multi_avg_fn=follow, use_buffers=True)
