"""The network: backbone, fusion of views, head. Composed from a recipe, never subclassed for one."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from trainables.backbone import Backbone
from trainables.recipe import Head, Recipe
from trainables.target_codec import TargetCodec
from trainables.views import view_count

_DROPOUT_SCALE: Final = (1.0, 0.5, 0.3)
_ACTIVATIONS: Final = {"gelu": nn.GELU, "relu": nn.ReLU}


class BiomassNet(nn.Module):
    """From views to encoded targets.

    With a `backbone`, it takes pictures (n, views, size, size, 3) uint8; without one, the features
    (n, views, features) that a frozen backbone made of them.
    """

    def __init__(self, recipe: Recipe, features: int, backbone: Backbone | None) -> None:
        super().__init__()
        self.backbone = backbone
        self.concat = recipe.fusion.kind == "concat"
        self.codec = TargetCodec(recipe.target)
        width = features * view_count(recipe.view) if self.concat else features
        self.head = mlp(recipe.head, width, self.codec.outputs)

    def forward(self, views: Tensor) -> Tensor:
        """(n, k) encoded predictions."""
        if self.backbone is not None:
            n = len(views)
            views = self.backbone(views.flatten(0, 1)).view(n, -1, self.backbone.features)
        fused = views.flatten(1) if self.concat else views.mean(dim=1)
        encoded: Tensor = self.head(fused)
        return encoded

    def grams(self, views: Tensor) -> Tensor:
        """(n, 5) predictions in grams, not yet projected onto the mass balance."""
        return self.codec.decode(self(views).float())

    def start_at(self, encoded: Tensor) -> None:
        """Let an untrained head predict the mean of the training fold's encoded targets (n, k)."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias.copy_(encoded.mean(dim=0))


def mlp(config: Head, inputs: int, outputs: int) -> nn.Sequential:
    """LayerNorm, then dropout and linear layers; dropouts scale 1, .5, .3 from the first to the third and beyond."""
    layers: list[nn.Module] = [nn.LayerNorm(inputs)] if config.norm else []
    width = inputs
    for i, hidden in enumerate(config.hidden):
        layers += [nn.Dropout(_dropout(config, i)), nn.Linear(width, hidden), _ACTIVATIONS[config.activation]()]
        width = hidden
    layers += [nn.Dropout(_dropout(config, len(config.hidden))), nn.Linear(width, outputs)]
    return nn.Sequential(*layers)


def _dropout(config: Head, layer: int) -> float:
    return config.dropout * _DROPOUT_SCALE[min(layer, len(_DROPOUT_SCALE) - 1)]
