"""Scores of the heaviest members of a blend alone: the blend without its lightest members, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ensemble.weighting.library import Library, combine
from ensemble.weighting.nested import deal, nested_predictions
from ensemble.weighting.procedure import Fit, Procedure, whole
from pasture.metric import weighted_r2
from pasture.targets import WEIGHTS, Array


@dataclass(frozen=True)
class Prefix:
    """The heaviest members of a blend.

    Attributes:
        members: how many.
        nested: R2 on dates that neither the weights nor the choice of these members were fitted to; None where the
            blend has no nested score.
        fitted: R2 on the images the blend was fitted to.
    """

    members: int
    nested: float | None
    fitted: float


def heaviest(weights: Array, count: int) -> Array:
    """Weights (m, 5) of the `count` heaviest members, scaled so that those of each target sum to what they did.

    A member is as heavy as the mean of its weights by the metric's weights. Where the weights that are left sum to
    nothing or to less (a regression may have negative ones), they are not scaled.
    """
    kept = weights.copy()
    kept[np.argsort(-(weights @ WEIGHTS), kind="stable")[count:]] = 0
    before, after = weights.sum(axis=0), kept.sum(axis=0)
    return np.asarray(kept * np.where(after > 0, before / np.where(after > 0, after, 1), 1.0))


def prefixes(
    library: Library, procedure: Procedure, weights: Array, nested: float | None, *, repeats: int = 5, seed: int = 0
) -> list[Prefix]:
    """The scores of every prefix of a blend, from its heaviest member alone to all of them.

    The nested score is computed as that of the blend: for each group of dates members and weights are chosen again
    without it, and the heaviest of them are kept.

    Args:
        library: the members.
        procedure: how members and weights are chosen.
        weights: (m, 5) of the blend.
        nested: score of the whole blend; None where there are too few dates for one.
        repeats: number of groupings, as of the whole blend.
        seed: draws the groupings, as of the whole blend.
    """
    count = int(weights.any(axis=1).sum())
    fitted = [
        weighted_r2(library.truth, combine(heaviest(weights, k), library.predictions)) for k in range(1, count + 1)
    ]
    if nested is None:
        return [Prefix(k, None, score) for k, score in enumerate(fitted, 1)]
    fit = _fit_once(whole(procedure))
    groupings = deal(library, repeats, np.random.default_rng(seed))
    fits = {str(k): _keeping(fit, k) for k in range(1, count)}
    predicted = nested_predictions(library, fits, groupings)
    scores = [float(np.mean([weighted_r2(library.truth, one) for one in predicted[str(k)]])) for k in range(1, count)]
    return [Prefix(k, score, own) for k, (score, own) in enumerate(zip([*scores, nested], fitted, strict=True), 1)]


def _keeping(fit: Fit, count: int) -> Callable[[Library], Array]:
    return lambda library: heaviest(fit(library), count)


def _fit_once(fit: Fit) -> Fit:
    """The same fit, which remembers the last library: every prefix of it needs the same weights."""
    last: list[tuple[Library, Array]] = []

    def remembered(library: Library) -> Array:
        if not last or last[0][0] is not library:
            last[:] = [(library, fit(library))]
        return last[0][1]

    return remembered
