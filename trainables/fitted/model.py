"""Heads fitted in one go to the features of a frozen backbone: `head.kind` ridge, pls, lightgbm and catboost.

Everything fitted is in buffers, so that `state_dict` and safetensors files hold it and nothing is unpickled.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from pasture.errors import InputError, JobError
from pasture.targets import TARGETS, Array
from trainables.fitted.boosting import Boosting, boosting_library
from trainables.fitted.pls import Pls
from trainables.fitted.ridge import Ridge
from trainables.network.target_codec import TargetCodec
from trainables.recipe.recipe import Recipe

_KINDS: Final = ("five", "primary", "clover")
_PLS_COMPONENTS: Final = 12
_FARTHEST: Final = 5.0
"""Standard deviations at which a standardised feature is clipped."""


def check_fitted(recipe: Recipe) -> None:
    """Check that a recipe whose head is not a network can be fitted on this machine.

    Raises:
        InputError: `target.kind` cannot be combined with the head, or the head's package is not installed.
    """
    if recipe.target.kind not in _KINDS:
        raise InputError(
            f"target.kind={recipe.target.kind} cannot be combined with head.kind={recipe.head.kind}; "
            f"give one of {', '.join(_KINDS)}"
        )
    if recipe.head.kind in ("lightgbm", "catboost"):
        boosting_library(recipe.head.kind)


class FittedModel(nn.Module):
    """Fused features (n, d) to five weights in grams.

    Features are standardised, optionally projected onto their `head.components` principal components, and given to one
    model per target. With `target.kind` primary or clover, two targets are differences of what the models predict. PLS
    and boosting fit `target.transform`; ridge blends raw and log targets whatever the transform.

    Args:
        recipe: its `head` and `target`.
        inputs: length d of the fused vector.

    Raises:
        InputError: as `check_fitted`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, recipe: Recipe, inputs: int) -> None:
        super().__init__()
        check_fitted(recipe)
        kind, components = recipe.head.kind, recipe.head.components
        self.components = 0 if kind == "pls" else components
        own = recipe.target.model_copy(update={"transform": "none"})
        self.codec = TargetCodec(own if kind == "ridge" else recipe.target)
        self.register_buffer("mean", torch.zeros(inputs, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(inputs, dtype=torch.float64))
        names = [TARGETS[column] for column in self.codec.columns]
        self.model: Ridge | Pls | Boosting
        if kind == "ridge":
            self.model = Ridge(inputs, len(names), recipe.head.penalty)
        elif kind == "pls":
            self.model = Pls(inputs, len(names), components or _PLS_COMPONENTS)
        else:
            self.model = Boosting(kind, inputs, names)

    def fit(self, features: Array, grams: Array, image_weights: Array, seed: int) -> None:
        """Fit the model and all statistics to the training rows of a fold.

        Args:
            features: (n, d).
            grams: (n, 5).
            image_weights: (n,) above 0; only their ratios matter.
            seed: of boosting's draws; ridge has none.

        Raises:
            JobError: a feature is not finite.
        """
        if not np.isfinite(features).all():
            raise JobError("a feature of the backbone is not finite; no model can be fitted")
        weights = image_weights / image_weights.mean()
        mean, scale = standardisation(features, weights)
        self.mean, self.scale = torch.from_numpy(mean), torch.from_numpy(scale)
        standardised = self._standardised(torch.from_numpy(features)).numpy()
        axes = principal_axes(standardised, weights, self.components) if self.components else None
        truth = torch.from_numpy(grams)
        self.codec.fit(truth)
        self.model.fit(standardised, axes, self.codec.encode(truth).numpy(), weights, seed)

    def grams(self, features: Tensor) -> Tensor:
        """(n, 5) in grams, float64, not yet projected onto the mass balance."""
        # In double precision also under autocast: standardising and summing thousands of features would lose digits.
        return self.codec.decode(self.model(self._standardised(features.double())))

    def _standardised(self, features: Tensor) -> Tensor:
        # A feature that hardly varies in the training fold may be hundreds of standard deviations away outside it.
        return ((features - self.mean) / self.scale).clamp(-_FARTHEST, _FARTHEST)


def standardisation(features: Array, weights: Array) -> tuple[Array, Array]:
    """Weighted mean (d,) and standard deviation (d,) of features (n, d); 1 for a feature that does not vary."""
    mean = np.average(features, axis=0, weights=weights)
    scale = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    # Not `scale == 0`: the mean of equal numbers may differ from them by a rounding error.
    return mean, np.where(np.ptp(features, axis=0) > 0, scale, 1.0)


def principal_axes(centred: Array, weights: Array, components: int) -> Array:
    """(d, k) leading principal axes of centred features (n, d), weighted by row; k is `components`, or their rank."""
    _, lengths, axes = np.linalg.svd(centred * np.sqrt(weights)[:, None], full_matrices=False)
    rank = int((lengths > lengths[0] * max(centred.shape) * np.finfo(np.float64).eps).sum())
    return np.ascontiguousarray(axes[: max(1, min(components, rank))].T)
