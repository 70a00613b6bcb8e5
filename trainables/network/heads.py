"""Heads: from fused features to raw outputs, with one network for all targets or one per target."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.network.target_codec import inverse_softplus
from trainables.recipe.sections import Head

_DROPOUT_SCALE: Final = (1.0, 0.5, 0.3)
_ACTIVATIONS: Final = {"gelu": nn.GELU, "relu": nn.ReLU}
_LEAST_HIDDEN: Final = 8


class MlpHead(nn.Module):
    """(n, inputs) features to (n, outputs) raw outputs."""

    def __init__(self, config: Head, inputs: int, outputs: int) -> None:
        super().__init__()
        self.softplus = config.output == "softplus"
        networks, each = (outputs, 1) if config.kind == "mlp_per_target" else (1, outputs)
        self.networks = nn.ModuleList([mlp(config, inputs, each) for _ in range(networks)])

    @property
    def hidden(self) -> int:
        """Length of the last hidden layers of all networks together; that of the features for linear heads."""
        return sum(network[-1].in_features for network in self.networks)  # type: ignore[index]

    def forward(self, features: Tensor) -> Tensor:
        """(n, outputs)."""
        return self.last(self.trunk(features))

    def trunk(self, features: Tensor) -> list[Tensor]:
        """For each network, the input (n, h) of its last layer."""
        return [network[:-1](features) for network in self.networks]  # type: ignore[index]

    def last(self, hidden: list[Tensor]) -> Tensor:
        """(n, outputs) of the result of `trunk`."""
        raw = torch.cat([net[-1](h) for net, h in zip(self.networks, hidden, strict=True)], dim=1)  # type: ignore[index]
        return F.softplus(raw) if self.softplus else raw

    def start_at(self, raw: Tensor) -> None:
        """Set the last biases so that the untrained head predicts (outputs,) raw values."""
        biases = inverse_softplus(raw) if self.softplus else raw
        with torch.no_grad():
            for network, bias in zip(self.networks, biases.view(len(self.networks), -1), strict=True):
                network[-1].bias.copy_(bias)  # type: ignore[index]


def mlp(config: Head, inputs: int, outputs: int) -> nn.Sequential:
    """LayerNorm, then dropout and linear layers; dropouts scale 1, .5, .3 from the first to the third and beyond."""
    hidden = config.hidden
    if config.hidden_share:
        hidden = (max(_LEAST_HIDDEN, round(config.hidden_share * inputs)),)
    rates = [config.dropout * _DROPOUT_SCALE[min(i, len(_DROPOUT_SCALE) - 1)] for i in range(len(hidden) + 1)]
    if not config.input_dropout:
        rates = [0.0, *rates[: len(hidden)]]
    layers: list[nn.Module] = [nn.LayerNorm(inputs)] if config.norm else []
    for rate, before, after in zip(rates, (inputs, *hidden), (*hidden, outputs), strict=True):
        layers += [nn.Dropout(rate), nn.Linear(before, after), _ACTIVATIONS[config.activation]()]
    return nn.Sequential(*layers[:-1])
