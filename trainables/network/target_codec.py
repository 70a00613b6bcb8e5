"""Coding of targets: which targets the head predicts, and on which scale.

A head's raw outputs (n, k) are expanded to encoded targets (n, c), on which losses are computed, and those are decoded
to grams (n, 5).
"""

from __future__ import annotations

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pasture.targets import BALANCE, CLOVER, COMPONENTS, GDM, GREEN, TARGETS, TOTAL, WEIGHTS
from trainables.recipe.sections import Target

COLUMNS: Final = {
    "five": tuple(range(len(TARGETS))),
    "primary": (TOTAL, GDM, GREEN),
    "clover": (TOTAL, GDM, CLOVER),
    "four": (TOTAL, GDM, GREEN, CLOVER),
    "components": tuple(range(len(TARGETS))),
    "ratios": tuple(range(len(TARGETS))),
    "dead_ratio": tuple(range(len(TARGETS))),
    "scalar": tuple(range(len(TARGETS))),
}
"""Targets that a loss is taken on, for each kind."""

_OUTPUTS: Final = {"components": len(COMPONENTS), "ratios": 1 + len(COMPONENTS), "dead_ratio": 3, "scalar": 1}
_BALANCED: Final = ("components", "ratios", "dead_ratio")
"""Kinds whose outputs are amounts above 0 that are in balance."""
_LARGEST_LOG: Final = 8.0  # before a fit: expm1(8) is 2,980 g, far above any photograph
_SMALLEST_SHARE: Final = 1e-3
_SMALLEST_SCALE: Final = 1e-3  # grams, of a target that is 0 in the whole training fold
_SMALLEST_VARIANCE: Final = 1e-6  # square grams
_LEAST_G: Final = 1e-6  # a square root has no gradient at 0


class TargetCodec(nn.Module):
    """Encodes (n, 5) grams as training targets (n, c), and turns raw outputs into those and into grams.

    Its statistics are buffers, fitted to the training fold only and saved with the weights: those of the z-score of
    `z` and `log1p_z`, and for both log transforms the largest logarithm of each target, at which predictions are
    clipped. A head that extrapolates logarithms linearly would otherwise predict any number of grams.
    """

    mean: Tensor
    std: Tensor
    ceiling: Tensor
    variance: Tensor
    balance: Tensor

    def __init__(self, config: Target) -> None:
        super().__init__()
        self.kind = config.kind
        self.transform = config.transform
        self.columns = list(COLUMNS[config.kind])
        self.register_buffer("mean", torch.zeros(len(self.columns)))
        self.register_buffer("std", torch.ones(len(self.columns)))
        self.register_buffer("ceiling", torch.full((len(self.columns),), _LARGEST_LOG))
        self.register_buffer("variance", torch.ones(()), persistent=False)
        self.register_buffer("balance", torch.tensor(BALANCE, dtype=torch.float32), persistent=False)

    @property
    def outputs(self) -> int:
        """Number k of values that the head predicts."""
        return _OUTPUTS.get(self.kind, len(self.columns))

    def fit(self, grams: Tensor) -> None:
        """Fit the statistics to the training fold's (n, 5) grams: those above, and `variance`, the metric's denominator
        for each image, which only the training needs."""
        weights = torch.tensor(WEIGHTS).to(grams)
        mean = (grams @ weights).mean() / weights.sum()
        self.variance.copy_(((grams - mean).square() @ weights).mean().clamp(min=_SMALLEST_VARIANCE))
        scaled = grams[:, self.columns]
        if self.transform.startswith("log1p"):
            scaled = torch.log1p(scaled)
            self.ceiling.copy_(scaled.max(dim=0).values)
        if self.transform.endswith("z"):
            self.mean.copy_(scaled.mean(dim=0))
            self.std.copy_(scaled.std(dim=0, correction=0).clamp(min=_SMALLEST_SCALE))

    def start(self, grams: Tensor) -> Tensor:
        """(k,) raw outputs that predict the mean of the training fold's (n, 5) grams."""
        if self.kind in _BALANCED:
            scale, raw = self.start_amounts(grams)
            return torch.cat([inverse_softplus(scale), raw[len(scale) :]])
        mean = self.encode(grams).mean(dim=0)
        return mean.mean().view(1) if self.kind == "scalar" else mean

    def start_amounts(self, grams: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and (k,) raw outputs at which `amounts` is the mean of the training fold's (n, 5) grams."""
        one = math.log(math.e - 1)  # its softplus is 1
        parts = grams[:, list(COMPONENTS)].mean(dim=0)
        if self.kind == "ratios":
            shares = (parts / parts.sum().clamp(min=_SMALLEST_SHARE)).clamp(min=_SMALLEST_SHARE)
            return parts.sum().view(1).clamp(min=_SMALLEST_SCALE), torch.cat([shares.new_tensor([one]), shares.log()])
        if self.kind == "dead_ratio":
            green, dead, clover = parts.clamp(min=_SMALLEST_SCALE)
            shares = torch.stack([dead / (green + dead + clover), clover / (green + clover)])
            return parts.sum().view(1).clamp(min=_SMALLEST_SCALE), torch.cat([shares.new_tensor([one]), shares.logit()])
        mean = parts if self.kind == "components" else grams[:, self.columns].mean(dim=0)
        return mean.clamp(min=_SMALLEST_SCALE), torch.full_like(mean, one)

    def amounts(self, raw: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        """(n, k) raw outputs to (n, c) grams above 0: softplus, times a scale, of each target or of what makes up all.

        Args:
            raw: outputs of a head.
            scale: (k,), or (1,) of Total for the kinds `ratios` and `dead_ratio`.
        """
        if self.kind == "ratios":
            grams = scale * F.softplus(raw[:, :1]) * raw[:, 1:].softmax(dim=1) @ self.balance.T
        elif self.kind == "dead_ratio":
            dead, clover = raw[:, 1:].sigmoid().unbind(dim=1)
            shares = torch.stack([(1 - dead) * (1 - clover), dead, (1 - dead) * clover], dim=1)
            grams = scale * F.softplus(raw[:, :1]) * shares @ self.balance.T
        else:
            grams = scale * F.softplus(raw)
            grams = grams @ self.balance.T if self.kind == "components" else grams
        return grams.clamp(min=_LEAST_G)

    def encode(self, grams: Tensor) -> Tensor:
        """(n, 5) grams to (n, c) training targets."""
        return self.encode_chosen(grams[:, self.columns])

    def encode_chosen(self, chosen: Tensor) -> Tensor:
        """(n, c) grams of the targets that a loss is taken on, to (n, c) training targets."""
        if self.transform == "none":
            return chosen
        if self.transform == "sqrt":
            return chosen.clamp(min=0).sqrt()
        return ((chosen if self.transform == "z" else torch.log1p(chosen)) - self.mean) / self.std

    def expand(self, raw: Tensor) -> Tensor:
        """(n, k) raw outputs to (n, c) encoded predictions, differentiable."""
        if self.kind == "scalar":
            return raw.expand(-1, len(self.columns))
        return self.encode(self.amounts(raw)) if self.kind in _BALANCED else raw

    def decode(self, encoded: Tensor) -> Tensor:
        """(n, c) encoded predictions to (n, 5) grams; differentiable, not yet projected onto the mass balance."""
        grams = encoded
        if self.transform == "sqrt":
            grams = encoded.clamp(min=0).square()  # below 0 a square would grow again
        elif self.transform == "z":
            grams = encoded * self.std + self.mean
        elif self.transform != "none":
            grams = torch.expm1(torch.minimum(encoded * self.std + self.mean, self.ceiling))
        return self.complete(grams)

    def spread(self, encoded: Tensor, log_variance: Tensor) -> Tensor:
        """(n, 5) standard deviations in grams, by the delta method.

        Targets that follow from the mass balance take the errors of those that they follow from as independent.

        Args:
            encoded: (n, c) encoded predictions.
            log_variance: (n, c) logarithms of their variances.
        """
        slope = torch.ones_like(encoded)
        if self.transform == "sqrt":
            slope = 2 * encoded.clamp(min=0)
        elif self.transform == "z":
            slope = self.std.expand_as(encoded)
        elif self.transform != "none":
            slope = torch.exp(torch.minimum(encoded * self.std + self.mean, self.ceiling)) * self.std
        variance = slope.square() * log_variance.exp()
        if len(self.columns) == len(TARGETS):
            return variance.sqrt()
        follows = self.complete(torch.eye(len(self.columns)).to(encoded))  # (c, 5): what one gram of each changes
        return (variance @ follows.square()).sqrt()

    def complete(self, grams: Tensor) -> Tensor:
        """(n, c) grams of the targets that a loss is taken on, to (n, 5): what is missing follows from the balance."""
        if len(self.columns) == len(TARGETS):
            return grams
        total, gdm, third = grams[:, :3].unbind(dim=1)
        clover = grams[:, 3] if self.kind == "four" else third if self.kind == "clover" else gdm - third
        green = gdm - third if self.kind == "clover" else third
        return torch.stack([green, total - gdm, clover, gdm, total], dim=1)


def inverse_softplus(value: Tensor) -> Tensor:
    """The x whose softplus is `value`, for values above 0 (smaller ones are taken as .001)."""
    value = value.clamp(min=1e-3)
    return value + torch.log(-torch.expm1(-value))
