"""From the tokens of a backbone's blocks to one feature vector a picture."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from trainables.recipe.sections import Pool

ATTENTION_HEADS: Final = 4
_ATTENTION_DROPOUT: Final = 0.1


def pooled_width(pool: Pool, width: int) -> int:
    """Length of the pooled vector of tokens of some width."""
    return width * (2 if pool in ("mean_std", "cls_mean", "cls_attention") else 1)


def pool_tokens(pool: Pool, prefix: Tensor | None, patches: Tensor) -> Tensor:
    """Fixed pools: (n, p, d) prefix tokens, the class token first, and (n, t, d) patch tokens to (n, features).

    `default` is the mean here: a model has no pool of its own for its inner blocks. `mean_std` describes texture as
    well as amount: statistics pooling (Snyder et al., X-Vectors, ICASSP 2018).
    """
    if pool in ("mean", "default"):
        return patches.mean(dim=1)
    if pool == "mean_std":
        return torch.cat([patches.mean(dim=1), patches.std(dim=1, correction=0)], dim=1)
    assert prefix is not None
    return prefix[:, 0] if pool == "cls" else torch.cat([prefix[:, 0], patches.mean(dim=1)], dim=1)


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
