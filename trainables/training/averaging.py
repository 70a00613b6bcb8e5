"""Averages of a network's weights: an exponential moving average over updates (EMA), and the mean over epochs
(stochastic weight averaging, SWA; Izmailov et al., UAI 2018)."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


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


class WeightAverage:
    """Running mean of weights, on the CPU.

    Attributes:
        mean: the mean so far; of integers, such as the number of batches of a batch norm, the last value.
        epochs: number of epochs in it.
    """

    def __init__(self, mean: Mapping[str, Tensor] | None = None, epochs: int = 0) -> None:
        self.mean, self.epochs = dict(mean or {}), epochs

    def add(self, weights: Mapping[str, Tensor]) -> None:
        """Include the weights of one more epoch."""
        self.epochs += 1
        for name, tensor in weights.items():
            if self.epochs == 1 or not tensor.is_floating_point():
                self.mean[name] = tensor
            else:
                self.mean[name] = torch.lerp(self.mean[name], tensor, 1 / self.epochs)


def trained_norms(net: nn.Module, names: Collection[str]) -> list[_BatchNorm]:
    """Batch norms whose running statistics are among the trained tensors `names`."""
    return [
        module
        for name, module in net.named_modules()
        if isinstance(module, _BatchNorm) and f"{name}.running_mean" in names
    ]


@contextmanager
def fresh_statistics(net: nn.Module, norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Within the block, batch norms collect new running statistics, equally weighted over batches; all other modules
    are in evaluation mode, and no gradients are recorded."""
    net.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the cumulative mean
        norm.train()
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        net.eval()
