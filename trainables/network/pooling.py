"""From the tokens of a backbone's blocks to one feature vector a picture."""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.recipe.backbone import Pool

ATTENTION_HEADS: Final = 4
_ATTENTION_DROPOUT: Final = 0.1
_EXPONENT: Final = 3.0
_LEAST: Final = 1e-6


def pooled_width(pool: Pool, width: int) -> int:
    """Length of the pooled vector of tokens of some width."""
    return width * (1 if pool == "default" else len(pool.split("_")))


def pool_tokens(pool: Pool, prefix: Tensor | None, patches: Tensor) -> Tensor:
    """Fixed pools: (n, p, d) prefix tokens, the class token first, and (n, t, d) patch tokens to (n, parts * d).

    `default` is the mean here: a model has no pool of its own for its inner blocks. `mean_std` describes texture as
    well as amount: statistics pooling (Snyder et al., X-Vectors, ICASSP 2018).
    """
    parts = ["mean"] if pool == "default" else pool.split("_")
    return torch.cat([_part(part, prefix, patches) for part in parts], dim=1)


def _part(part: str, prefix: Tensor | None, patches: Tensor) -> Tensor:
    """(n, d): one part of a fixed pool."""
    if part == "cls":
        assert prefix is not None
        return prefix[:, 0]
    if part == "std":
        return patches.std(dim=1, correction=0)
    if part == "max":
        return patches.amax(dim=1)
    if part == "min":
        return patches.amin(dim=1)
    return generalised_mean(patches) if part == "gem" else patches.mean(dim=1)


def generalised_mean(patches: Tensor) -> Tensor:
    """(n, t, d) to (n, d): the cube root of the mean cube, between the mean and the maximum; values below 1e-6 count as
    1e-6 (Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2019, equation 3).

    In float32 also under autocast: half precision holds no cube of a small number.
    """
    return patches.float().clamp(min=_LEAST).pow(_EXPONENT).mean(dim=1).pow(1 / _EXPONENT)


def on_one_grid(maps: list[Tensor]) -> Tensor:
    """Cells (n, side^2, d) of several blocks, concatenated to (n, side^2, sum of d) on the grid of the coarsest.

    Finer maps are averaged over the cells that lie in a coarse one.
    """
    sides = [math.isqrt(cells.shape[1]) for cells in maps]
    squares = (c.transpose(1, 2).reshape(len(c), -1, each, each) for c, each in zip(maps, sides, strict=True))
    return torch.cat(
        [F.adaptive_avg_pool2d(square, min(sides)).flatten(2).transpose(1, 2) for square in squares], dim=2
    )


class AttentionPool(nn.Module):
    """Several attention-weighted means of the patch tokens, averaged, beside the class token.

    Weights come from linear d to d/2, tanh, dropout, linear to one score a head, softmax over the patches (Ilse et al.,
    Attention-based Deep Multiple Instance Learning, ICML 2018, without the gate).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(width, width // 2),
            nn.Tanh(),
            nn.Dropout(_ATTENTION_DROPOUT),
            nn.Linear(width // 2, ATTENTION_HEADS),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, 1 + t, d) tokens, the class token first, to (n, 2 d)."""
        patches = tokens[:, 1:]
        weights = self.score(patches).softmax(dim=1).mean(dim=2)  # (n, t)
        return torch.cat([tokens[:, 0], torch.einsum("nt,ntd->nd", weights, patches)], dim=1)
