"""Fusion of the feature vectors of a photograph's views into one vector, or into one per group for late fusion.

Views form groups: the tiles of a half, the crops of a picture. Features are fused within groups, then across.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from trainables.recipe.sections import Fusion

_ATTENTION_HIDDEN: Final = 128
_FILM_LEAST: Final = 32


class Fuse(nn.Module):
    """Fusion within groups, then across them.

    Args:
        config: the kinds of fusion.
        groups: number of views in each group, in the order of the views.
        features: length d of each view's vector.
    """

    def __init__(self, config: Fusion, groups: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.kind, self.groups = config.kind, groups
        self.within = nn.ModuleList([_within(config, features) for _ in groups])
        self.attention = ViewAttention(features) if config.kind == "attention" else None
        self.width = features * (len(groups) if config.kind == "concat" else 1)

    def forward(self, views: Tensor) -> Tensor:
        """(n, views, d) to (n, vectors, width): one vector, or one per group with late fusion."""
        parts = views.split(self.groups, dim=1)  # type: ignore[no-untyped-call]
        fused = torch.stack([fuse(part) for fuse, part in zip(self.within, parts, strict=True)], dim=1)
        if self.kind == "late":
            return fused
        if self.kind == "concat":
            return fused.flatten(1).unsqueeze(1)
        vector: Tensor = fused.mean(dim=1) if self.attention is None else self.attention(fused)
        return vector.unsqueeze(1)


class Cells(nn.Module):
    """No fusion: every cell of every view is a vector, for a density head."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.width = features

    def forward(self, views: Tensor) -> Tensor:
        """(n, views, cells, d) to (n, views * cells, d)."""
        return views.flatten(1, 2)


class Mean(nn.Module):
    """(n, views, d) to their mean (n, d)."""

    def forward(self, views: Tensor) -> Tensor:
        """(n, d)."""
        return views.mean(dim=1)


class ViewAttention(nn.Module):
    """A weighted mean of views; the weights come from d to 128, GELU, 1, softmax over the views."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(features, _ATTENTION_HIDDEN), nn.GELU(), nn.Linear(_ATTENTION_HIDDEN, 1))

    def forward(self, views: Tensor) -> Tensor:
        """(n, views, d) to (n, d)."""
        weights: Tensor = self.score(views).softmax(dim=1)
        return (weights * views).sum(dim=1)


class Film(nn.Module):
    """Feature-wise linear modulation (Perez et al., AAAI 2018) of each view by the mean of its group, then the mean.

    The context gives gamma and beta through d to max(32, d/2), ReLU, 2 d; a view becomes view * (1 + gamma) + beta.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        hidden = max(_FILM_LEAST, features // 2)
        self.net = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 2 * features))

    def forward(self, views: Tensor) -> Tensor:
        """(n, views, d) to (n, d)."""
        gamma, beta = self.net(views.mean(dim=1, keepdim=True)).chunk(2, dim=2)
        modulated: Tensor = views * (1 + gamma) + beta
        return modulated.mean(dim=1)


def _within(config: Fusion, features: int) -> nn.Module:
    if config.within == "film":
        return Film(features)
    return ViewAttention(features) if config.within == "attention" else Mean()
