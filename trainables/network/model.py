"""The network: backbone, pooling, fusion of views and head, composed from a recipe."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pasture.targets import TARGETS
from trainables.images.views import view_groups
from trainables.network.backbone import Backbone
from trainables.network.fusion import Fuse
from trainables.network.heads import MlpHead
from trainables.network.pooling import AttentionPool
from trainables.network.standardizer import Standardizer
from trainables.network.target_codec import TargetCodec
from trainables.recipe.recipe import Recipe

AUXILIARY = ("ndvi", "height_cm")
"""Targets of the auxiliary head."""
TRAINING_HEADS = ("auxiliary", "intervals")
"""Parts that only the training loss needs; they are neither saved nor part of a network that predicts."""


class Batch(NamedTuple):
    """Inputs of the network.

    Attributes:
        views: pictures (n, views, size, size, 3) uint8, or features (n, views, d) of a frozen backbone.
        semantic: features (n, s) of the second backbone, if the recipe has one.
    """

    views: Tensor
    semantic: Tensor | None = None

    def part(self, start: int, stop: int, device: torch.device) -> Batch:
        """A range of its images, on a device."""
        views, semantic = (None if whole is None else whole[start:stop].to(device, non_blocking=True) for whole in self)
        assert views is not None
        return Batch(views, semantic)


class BiomassNet(nn.Module):
    """From views to encoded targets, in two halves between which features can be mixed.

    Under autocast only the backbone and its attention pool run in mixed precision; fusion and head run in float32.

    Args:
        recipe: what to build.
        features: length of a view's feature vector.
        backbone: where it is trained; None where the features of a frozen one come in.
        semantic: length of the second backbone's vector; 0 for none.
    """

    def __init__(self, recipe: Recipe, features: int, backbone: Backbone | None = None, semantic: int = 0) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool = AttentionPool(backbone.width) if backbone and recipe.backbone.pool == "cls_attention" else None
        standardize = recipe.backbone.standardize
        self.standardize = Standardizer(features) if standardize and backbone is None else None
        self.standardize_semantic = Standardizer(semantic) if standardize and semantic else None
        self.fuse = Fuse(recipe.fusion, view_groups(recipe.view), features)
        self.codec = TargetCodec(recipe.target)
        self.head = MlpHead(recipe.head, self.fuse.width + semantic, self.codec.outputs)
        self.auxiliary = nn.Linear(self.fuse.width + semantic, len(AUXILIARY)) if recipe.loss.auxiliary else None
        intervals = recipe.loss.intervals
        classes = len(TARGETS) * intervals.bins
        self.intervals = nn.Linear(self.head.hidden, classes) if intervals.weight else None

    def embed(self, batch: Batch) -> Tensor:
        """(n, vectors, width): one fused vector an image, or one a group with late fusion."""
        views = batch.views
        if self.backbone is not None:
            n, count = views.shape[:2]
            views = self.backbone(views.flatten(0, 1))
            if self.pool is not None:
                views = self.pool(views)
            views = views.view(n, count, -1)
        semantic = batch.semantic
        with _float32(views):
            views = views.float()
            fused: Tensor = self.fuse(views if self.standardize is None else self.standardize(views))
            if semantic is None:
                return fused
            if self.standardize_semantic is not None:
                semantic = self.standardize_semantic(semantic)
        return torch.cat([fused, semantic.unsqueeze(1).expand(-1, fused.shape[1], -1)], dim=2)

    def outputs(self, fused: Tensor) -> tuple[Tensor, Tensor | None]:
        """What training needs of fused vectors (n, vectors, width): encoded predictions (n, vectors, c), and the logits
        (n, 5 * bins) of the interval classifiers if the network has them."""
        with _float32(fused):
            hidden = self.head.trunk(fused.float().flatten(0, 1))
            encoded: Tensor = self.codec.expand(self.head.last(hidden)).view(*fused.shape[:2], -1)
            if self.intervals is None:
                return encoded, None
            image = torch.cat(hidden, dim=1).view(*fused.shape[:2], -1).mean(dim=1)
            return encoded, self.intervals(image)

    def forward(self, batch: Batch) -> Tensor:
        """(n, vectors, c) encoded predictions."""
        return self.outputs(self.embed(batch))[0]

    def drop_training_heads(self) -> None:
        """Remove the parts that only the training loss needs."""
        for head in TRAINING_HEADS:
            setattr(self, head, None)

    def grams(self, batch: Batch) -> Tensor:
        """(n, 5) predictions in grams, not yet projected onto the mass balance."""
        encoded = self(batch)
        with _float32(encoded):
            grams: Tensor = self.codec.decode(encoded.flatten(0, 1))
        return grams.view(*encoded.shape[:2], -1).mean(dim=1)


def _float32(tensor: Tensor) -> torch.autocast:
    """Leave mixed precision: bfloat16 has 8 significant bits, too few for weights in grams, and a head is cheap."""
    return torch.autocast(tensor.device.type, enabled=False)
