"""An exponential moving average of a network's trained weights and running statistics."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import nn


class MovingAverage:
    """A copy of a network whose trained tensors follow those of the network, update by update.

    The decay rises as (1 + t) / (10 + t) to its final value, so that the initial weights do not dominate a training of
    a few hundred steps. Unlike `torch.optim.swa_utils.AveragedModel` it shares the frozen tensors with the network
    instead of holding a second copy of the backbone.

    Args:
        net: the network to follow.
        decay: final decay, below 1.
        names: names of the trained parameters and buffers in the state dict of `net`.

    Attributes:
        module: the network with averaged weights.
        updates: number of updates so far.
    """

    def __init__(self, net: nn.Module, decay: float, names: Collection[str]) -> None:
        self.decay, self.updates = decay, 0
        tensors = [*net.named_parameters(), *net.named_buffers()]
        shared = {id(tensor): tensor for name, tensor in tensors if name not in names}
        self.module = copy.deepcopy(net, shared)
        averages = dict([*self.module.named_parameters(), *self.module.named_buffers()])
        trained = [(averages[name], tensor) for name, tensor in tensors if name in names]
        # Grouped for the foreach functions: on a GPU, one call per tensor takes longer than the arithmetic.
        self._floats = [pair for pair in trained if pair[0].is_floating_point()]
        self._counts = [pair for pair in trained if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take over the weights after a step of the optimiser; the first update copies them."""
        for average, tensor in self._counts:
            average.copy_(tensor)
        averages, tensors = [pair[0] for pair in self._floats], [pair[1] for pair in self._floats]
        if self.updates:
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            torch._foreach_lerp_(averages, tensors, 1 - decay)
        else:
            torch._foreach_copy_(averages, tensors)
        self.updates += 1
