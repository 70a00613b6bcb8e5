"""The density head: grams for each cell of a photograph, whose sum is the prediction."""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.images.views import view_shares
from trainables.network.heads import MlpHead
from trainables.network.target_codec import TargetCodec
from trainables.recipe.sections import Head, View


class DensityHead(MlpHead):
    """A small network on each cell, softplus, and the sum over all cells of all views.

    The network predicts the density of a cell: how many grams the photograph would have if all of it were like the
    cell. The grams of the cell are its density times its share of the photograph's area, so that densities of large and
    of small cells can be compared. Where several views show the same part of the photograph, their mean counts.

    Densities are multiples of the training fold's mean, `scale`, which is saved with the weights.
    """

    scale: Tensor
    shares: Tensor

    def __init__(self, config: Head, view: View, inputs: int, codec: TargetCodec) -> None:
        super().__init__(config, inputs, codec.outputs)
        self.register_buffer("scale", torch.ones(1 if codec.kind in ("ratios", "dead_ratio") else codec.outputs))
        self.register_buffer("shares", torch.tensor(view_shares(view)), persistent=False)

    def fit(self, codec: TargetCodec, grams: Tensor) -> None:
        """Take the scale from the training fold's (n, 5) grams, and start at their mean."""
        scale, raw = codec.start_amounts(grams)
        self.scale.copy_(scale)
        self.start_at(raw)

    def cell_grams(self, codec: TargetCodec, raw: Tensor, images: int) -> Tensor:
        """(images * views * cells, k) raw outputs to (images, views, cells, c) grams of each cell."""
        densities = codec.amounts(raw, self.scale).view(images, len(self.shares), -1, len(codec.columns))
        return densities * (self.shares / densities.shape[2]).view(-1, 1, 1)
