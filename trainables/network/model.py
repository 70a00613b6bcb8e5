"""The network: backbone, pooling, fusion of views and head, composed from a recipe."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pasture.targets import TARGETS
from trainables.images.views import view_groups
from trainables.network.backbone import Backbone
from trainables.network.density import DensityHead
from trainables.network.fusion import Cells, Fuse
from trainables.network.heads import MlpHead
from trainables.network.pooling import AttentionPool
from trainables.network.standardizer import Standardizer
from trainables.network.target_codec import TargetCodec
from trainables.recipe.recipe import Recipe

AUXILIARY = ("ndvi", "height_cm")
"""Targets of the auxiliary head."""
TRAINING_HEADS = ("auxiliary", "intervals", "states", "species")
"""Parts that only the training loss needs; they are neither saved nor part of a network that predicts."""
_LEAST_VARIANCE = 1e-4  # of encoded targets, at the start


class Batch(NamedTuple):
    """Inputs of the network.

    Attributes:
        views: pictures (n, views, size, size, 3) uint8, or features of a frozen backbone: (n, views, d), or with pool
            `grid` (n, views, cells, d).
        semantic: features (n, s) of the second backbone, if the recipe has one.
    """

    views: Tensor
    semantic: Tensor | None = None

    def part(self, start: int, stop: int, device: torch.device) -> Batch:
        """A range of its images, on a device."""
        views, semantic = (None if whole is None else whole[start:stop].to(device, non_blocking=True) for whole in self)
        assert views is not None
        return Batch(views, semantic)


class Outputs(NamedTuple):
    """What a network makes of the fused vectors of n images.

    Attributes:
        encoded: (n, vectors, c) encoded predictions.
        log_variance: (n, c) logarithms of their variances; None unless the loss is `gaussian_nll`.
        intervals: (n, 5 * bins) logits of the interval classifiers; None without them, as the following.
        states: (n, states) logits.
        species: (n, tags) logits.
    """

    encoded: Tensor
    log_variance: Tensor | None
    intervals: Tensor | None
    states: Tensor | None
    species: Tensor | None


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
        self.backbone, self.dense = backbone, recipe.dense
        self.pool = AttentionPool(backbone.width) if backbone and recipe.backbone.pool == "cls_attention" else None
        standardize = recipe.backbone.standardize
        self.standardize = Standardizer(features) if standardize and backbone is None else None
        self.standardize_semantic = Standardizer(semantic) if standardize and semantic else None
        groups = view_groups(recipe.view)
        self.fuse = Cells(features) if recipe.dense else Fuse(recipe.fusion, groups, features)
        self.codec = TargetCodec(recipe.target)
        width = self.fuse.width + semantic
        self.head = (
            DensityHead(recipe.head, recipe.view, width, self.codec)
            if recipe.dense
            else MlpHead(recipe.head, width, self.codec.outputs)
        )
        self.auxiliary = nn.Linear(self.fuse.width + semantic, len(AUXILIARY)) if recipe.loss.auxiliary else None
        intervals = recipe.loss.intervals
        classes = len(TARGETS) * intervals.bins
        self.intervals = nn.Linear(self.head.hidden, classes) if intervals.weight else None
        self.log_variance = None
        if recipe.loss.kind == "gaussian_nll":
            self.log_variance = nn.Linear(self.head.hidden, len(self.codec.columns))
        self.states: nn.Linear | None = None
        self.species: nn.Linear | None = None

    def embed(self, batch: Batch) -> Tensor:
        """(n, vectors, width): a fused vector of each image, of each group (late fusion) or of each cell (density)."""
        views = batch.views
        if self.backbone is not None:
            n, count = views.shape[:2]
            views = self.backbone(views.flatten(0, 1))
            if self.pool is not None:
                views = self.pool(views)
            views = views.unflatten(0, (n, count))
        semantic = batch.semantic
        with _float32(views):
            views = views.float()
            fused: Tensor = self.fuse(views if self.standardize is None else self.standardize(views))
            if semantic is None:
                return fused
            if self.standardize_semantic is not None:
                semantic = self.standardize_semantic(semantic)
        return torch.cat([fused, semantic.unsqueeze(1).expand(-1, fused.shape[1], -1)], dim=2)

    def classify(self, states: int, species: int) -> None:
        """Add classifiers of a number of States and of species; 0 for none."""
        for name, classes in (("states", states), ("species", species)):
            setattr(self, name, nn.Linear(self.head.hidden, classes) if classes else None)

    def outputs(self, fused: Tensor) -> Outputs:
        """What training needs of fused vectors (n, vectors, width)."""
        with _float32(fused):
            hidden = self.head.trunk(fused.float().flatten(0, 1))
            raw = self.head.last(hidden)
            if isinstance(self.head, DensityHead):
                grams = self.head.cell_grams(self.codec, raw, len(fused)).sum(dim=(1, 2))
                encoded = self.codec.encode_chosen(grams).unsqueeze(1)
            else:
                encoded = self.codec.expand(raw).view(*fused.shape[:2], -1)
            image = torch.cat(hidden, dim=1).view(*fused.shape[:2], -1).mean(dim=1)
            heads = (self.log_variance, self.intervals, self.states, self.species)
            return Outputs(encoded, *(None if head is None else head(image) for head in heads))

    def forward(self, batch: Batch) -> Tensor:
        """(n, vectors, c) encoded predictions."""
        return self.outputs(self.embed(batch)).encoded

    def maps(self, batch: Batch) -> Tensor:
        """(n, views, cells, 5) grams of each cell, of a network with a density head."""
        assert isinstance(self.head, DensityHead)
        fused = self.embed(batch)
        with _float32(fused):
            raw = self.head(fused.float().flatten(0, 1))
            grams = self.head.cell_grams(self.codec, raw, len(fused))
            return self.codec.complete(grams.flatten(0, 2)).view(*grams.shape[:3], -1)

    def start_at(self, grams: Tensor) -> None:
        """Let the untrained head predict the mean of the training fold's (n, 5) grams, and its variance."""
        if isinstance(self.head, DensityHead):
            self.head.fit(self.codec, grams)
        else:
            self.head.start_at(self.codec.start(grams))
        if self.log_variance is not None:
            variance = self.codec.encode(grams).var(dim=0, correction=0).clamp(min=_LEAST_VARIANCE)
            with torch.no_grad():
                self.log_variance.weight.zero_()
                self.log_variance.bias.copy_(variance.log())

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

    def spread(self, batch: Batch) -> Tensor:
        """(n, 5) standard deviations in grams that a network trained with `gaussian_nll` predicts for its errors."""
        outputs = self.outputs(self.embed(batch))
        assert outputs.log_variance is not None
        with _float32(outputs.encoded):
            return self.codec.spread(outputs.encoded.mean(dim=1), outputs.log_variance)


def _float32(tensor: Tensor) -> torch.autocast:
    """Leave mixed precision: bfloat16 has 8 significant bits, too few for weights in grams, and a head is cheap."""
    return torch.autocast(tensor.device.type, enabled=False)
