"""The methods that make a blend: one small function each, in one table, from the simplest to the most flexible.

A method is given a library and returns (m, 5) weights, a member's for each target. What is the same for all of them
is in `fit_method`: the mean over seeds, the limits and the dropping of tiny weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.weighting.best_k import best_k, equal_backbones
from ensemble.weighting.greedy import greedy
from ensemble.weighting.library import Library
from ensemble.weighting.optimum import convex_optimum, convex_weights
from ensemble.weighting.options import MethodName, Options
from ensemble.weighting.ridge_path import penalty, ridge
from pasture.targets import TARGETS, WEIGHTS, Array

WIDEST: Final = 100
"""Methods that solve for all weights at once get at most so many members, the best by their own score: pruning
helps (R. Caruana, A. Munson, A. Niculescu-Mizil: Getting the Most Out of Ensemble Selection, ICDM 2006, section 4)."""


class Method(NamedTuple):
    """One way to make a blend.

    Attributes:
        fit: (m, 5) weights for a library of m members; the options are those of greedy selection.
        meaning: what it is, in a few words.
        solves: whether it solves for the weights of all members at once.
    """

    fit: Callable[[Library, Options], Array]
    meaning: str
    solves: bool = False


def _uniform(library: Library, _: Options) -> Array:
    """The same weight for all."""
    return _alike(np.full(len(library), 1 / len(library)))


def _best_k(library: Library, _: Options) -> Array:
    """The mean of the k best, k chosen by dates held out, with the same weight for each of their backbones."""
    residuals = library.gram.residuals.reshape(len(library), *library.truth.shape)
    kept = best_k(residuals, library.day, library.backbones)
    weights = np.zeros(len(library))
    weights[kept] = equal_backbones([library.backbones[i] for i in kept])
    return _alike(weights)


def _greedy(library: Library, options: Options) -> Array:
    """Greedy selection with replacement (Caruana et al., ICML 2004)."""
    return _alike(greedy(library.gram, library.backbones, options).weights)


def _simplex(library: Library, _: Options) -> Array:
    """The best convex weights, exactly (L. Breiman: Stacked Regressions, Machine Learning 24, 1996)."""
    return _alike(convex_optimum(library.gram))


def _shrunk(library: Library, _: Options) -> Array:
    """Convex weights that are drawn toward equal ones (F. Diebold, P. Pauly: The Use of Prior Information in Forecast
    Combination, International Journal of Forecasting 6, 1990), as strongly as pays on dates held out."""
    residuals = library.gram.residuals / np.sqrt(library.gram.total)
    return _alike(_drawn_to_uniform(residuals, np.repeat(library.day, len(TARGETS))))


def _per_target(library: Library, _: Options) -> Array:
    """The same for each target on its own."""
    weights = np.empty((len(library), len(TARGETS)))
    for t in range(len(TARGETS)):
        errors = library.predictions[:, :, t] - library.truth[:, t]
        weights[:, t] = _drawn_to_uniform(errors / np.sqrt(library.gram.total), library.day)
    return weights


def _ridge(library: Library, _: Options) -> Array:
    """Stacking (D. Wolpert: Stacked Generalization, Neural Networks 5, 1992): for each target a ridge regression on
    what the members predict for it, drawn toward equal weights; neither positive nor of sum 1."""
    weights = np.full((len(library), len(TARGETS)), 1 / len(library))
    for t in range(len(TARGETS)):
        design = library.predictions[:, :, t].T
        weights[:, t] += ridge(design, library.truth[:, t] - design.mean(axis=1), library.day)
    return weights


METHODS: Final[dict[MethodName, Method]] = {
    "uniform": Method(_uniform, "mean of all members"),
    "best-k": Method(
        _best_k, "mean of the k best members, in which backbones weigh the same; k chosen by dates held out"
    ),
    "shrunk": Method(_shrunk, "convex weights, drawn toward the mean", solves=True),
    "greedy": Method(_greedy, "greedy selection with replacement"),
    "simplex": Method(_simplex, "best convex weights on the images fitted to", solves=True),
    "per-target": Method(_per_target, "convex weights for each target, drawn toward the mean", solves=True),
    "ridge": Method(_ridge, "ridge regression on the members for each target", solves=True),
}


def fit_method(name: MethodName, library: Library, options: Options) -> Array:
    """(m, 5) weights by a method, within the limits.

    Members that differ only in their seed count as one, their mean, and share its weight equally. Where members or
    backbones are limited, every method weighs the members that greedy selection picks under the limits. Members with
    less weight than `options.min_weight` (in the mean over targets, by the metric's weights) are dropped and the others
    weighed again; that does not concern `uniform` and `best-k`.

    Args:
        name: of the method.
        library: m members.
        options: of greedy selection; the limits and `min_weight` hold for every method.
    """
    number = library.recipe_number
    weights = _weights(name, library.mean_over_seeds(), options)
    return np.asarray(weights[number] / np.bincount(number)[number, None])


def _weights(name: MethodName, library: Library, options: Options) -> Array:
    method = METHODS[name]
    if name == "greedy":
        return method.fit(library, options)
    kept = admitted(library, options)
    if method.solves and len(kept) > WIDEST:
        best = np.argsort(library.gram.diagonal[kept], kind="stable")[:WIDEST]
        kept = np.sort(kept[best])
    while True:
        weights = np.zeros((len(library), len(TARGETS)))
        weights[kept] = method.fit(library.members(kept), options)
        share = np.abs(weights) @ WEIGHTS
        large = kept[share[kept] >= options.min_weight]
        if name in ("uniform", "best-k") or len(large) == len(kept):
            return weights
        kept = large if len(large) else np.array([share.argmax()])


def _alike(weights: Array) -> Array:
    """(m, 5) from (m,): the same weight for all targets."""
    return np.repeat(weights[:, None], len(TARGETS), axis=1)


def _drawn_to_uniform(residuals: Array, day: NDArray[np.intp]) -> Array:
    """(m,) convex weights a that minimise ||R a||^2 + p ||a - 1/m||^2.

    Without the bounds this is a ridge regression of the mean's residuals on the members' deviations from it, from
    which the penalty p is chosen.

    Args:
        residuals: (m, r), a row a member.
        day: (r,) date of each residual.
    """
    mean = residuals.mean(axis=0)
    return convex_weights(residuals, penalty((residuals - mean).T, -mean, day))


def admitted(library: Library, options: Options) -> NDArray[np.intp]:
    """Positions of the members that a method may weigh: all, or those that greedy selection picks under the limits."""
    if not options.limited:
        return np.arange(len(library))
    return np.flatnonzero(greedy(library.gram, library.backbones, options).weights)
