"""Between five weights in grams and what the head predicts: which targets, and on what scale."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from pasture.targets import GDM, GREEN, TARGETS, TOTAL, WEIGHTS
from trainables.recipe import Target

PRIMARY: Final = (TOTAL, GDM, GREEN)
_LARGEST_LOG: Final = 8.0  # expm1(8) is 2,980 g, far above any paddock: a wild prediction must not become infinite


class TargetCodec(nn.Module):
    """Encodes (n, 5) grams as (n, k) training targets and decodes predictions back to (n, 5) grams.

    The statistics of `log1p_z` are buffers, fitted on the training fold only and saved with the weights.
    """

    mean: Tensor
    std: Tensor
    weights: Tensor

    def __init__(self, config: Target) -> None:
        super().__init__()
        self.kind = config.kind
        self.transform = config.transform
        self.columns = list(range(len(TARGETS)) if config.kind == "five" else PRIMARY)
        self.register_buffer("mean", torch.zeros(self.outputs))
        self.register_buffer("std", torch.ones(self.outputs))
        self.register_buffer("weights", torch.tensor(WEIGHTS[self.columns], dtype=torch.float32), persistent=False)

    @property
    def outputs(self) -> int:
        """Number k of values that the head predicts."""
        return len(self.columns)

    def fit(self, grams: Tensor) -> None:
        """Take the z-score's statistics from the training fold's (n, 5) grams."""
        if self.transform == "log1p_z":
            logs = torch.log1p(grams[:, self.columns])
            self.mean.copy_(logs.mean(dim=0))
            self.std.copy_(logs.std(dim=0, correction=0).clamp(min=1e-3))

    def encode(self, grams: Tensor) -> Tensor:
        """(n, 5) grams to (n, k) training targets."""
        chosen = grams[:, self.columns]
        if self.transform == "none":
            return chosen
        return (torch.log1p(chosen) - self.mean) / self.std

    def decode(self, encoded: Tensor) -> Tensor:
        """(n, k) predictions to (n, 5) grams; differentiable, not yet projected onto the mass balance."""
        grams = encoded
        if self.transform != "none":
            grams = torch.expm1((encoded * self.std + self.mean).clamp(max=_LARGEST_LOG))
        if self.kind == "five":
            return grams
        total, gdm, green = grams.unbind(dim=1)
        return torch.stack([green, total - gdm, gdm - green, gdm, total], dim=1)
