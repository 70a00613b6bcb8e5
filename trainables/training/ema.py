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

    def follow(average: Sequence[Tensor], current: Sequence[Tensor], _: Tensor | int) -> None:
        t = float(model.n_averaged)  # not the argument, which lies on the device and would be waited for
        step = 1 - min(decay, (1 + t) / (10 + t))
        # Tensors come grouped by type. One call for all: on a GPU, a call a tensor takes longer than the arithmetic.
        if torch.is_floating_point(average[0]):
            torch._foreach_lerp_(list(average), list(current), step)
        else:
            torch._foreach_copy_(list(average), list(current))

    model = AveragedModel(net, multi_avg_fn=follow, use_buffers=True)
    return model
