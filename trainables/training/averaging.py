"""The mean of a network's weights over several epochs (stochastic weight averaging, SWA; Izmailov et al., UAI 2018)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


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
