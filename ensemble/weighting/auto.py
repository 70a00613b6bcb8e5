"""Choosing by dates held out: the method, and whether to scale targets. The simpler stays unless the other is better
by more than one standard error (L. Breiman et al.: Classification and Regression Trees, 1984, section 3.4.3)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from ensemble.weighting.library import Library, combine
from ensemble.weighting.methods import METHODS, fit_method
from ensemble.weighting.nested import deal, losses_by_day, nested_predictions, standard_error
from ensemble.weighting.options import MethodChoice, MethodName, Options
from ensemble.weighting.procedure import Choice, Decided, Fit, Procedure, whole
from pasture.projection import project
from pasture.targets import Array

GROUPINGS = 2
"""Number of random groupings of the dates to choose by."""


def procedure(method: MethodChoice, options: Options, scale: bool = False) -> Procedure:
    """The whole way from a library to weights, choices included.

    Args:
        method: a method's name, or `auto` for the one that `choose` takes.
        options: of greedy selection; limits hold for every method.
        scale: whether each target may have a factor of its own, where that pays (`scaling_pays`).
    """

    def decide(library: Library) -> Decided:
        choice = choose(library, options) if method == "auto" else None
        name = choice.name if choice else method
        assert name != "auto"
        plain = partial(_fit, name, options)
        scaling = scale and scaling_pays(plain, library)
        return Decided((lambda part: scaled(plain(part), part)) if scaling else plain, choice)

    return decide


def blend_predictions(
    method: MethodChoice,
    truth: Array,
    oof: Array,
    dates: ArrayLike,
    others: Array,
    *,
    backbones: Sequence[str] | None = None,
    recipes: Sequence[str] | None = None,
    options: Options | None = None,
) -> Array:
    """Fit a blend to OOF predictions in arrays, and predict other images with it, as `forage predict` would.

    Args:
        method: how members and weights are chosen.
        truth: (n, 5) in grams.
        oof: (m, n, 5) OOF predictions in grams.
        dates: (n,) date of each image.
        others: (m, k, 5) what the members predict for other images, in grams.
        backbones: m names; for limits and ties of greedy selection.
        recipes: m names, the same for members that differ only in their seed.
        options: plain greedy selection where None.

    Returns:
        (k, 5) in grams, non-negative and in mass balance.
    """
    library = Library.of_arrays(truth, oof, dates, backbones, recipes)
    weights = whole(procedure(method, options or Options()))(library)
    return project(combine(weights, others))


def choose(library: Library, options: Options, seed: int = 0) -> Choice:
    """The simplest method that is not worse than the best by more than one standard error.

    Every method is judged by its nested predictions (`nested_predictions`, 2 groupings). The one of least loss is the
    best; the others are behind it by a difference of losses on every date, of which the sum has the standard error
    sqrt(D var(differences)) over D dates. In a library of one date there is nothing to judge by: equal weights.
    """
    if len(library.days) < 2:
        return Choice("uniform", {}, {}, {})
    fits: dict[str, Fit] = {name: partial(_fit, name, options) for name in METHODS}
    predicted = nested_predictions(library, fits, deal(library, GROUPINGS, np.random.default_rng(seed)))
    losses = {name: losses_by_day(library, predicted[name]) for name in METHODS}
    best = min(losses, key=lambda name: losses[name].sum())
    excess = {name: loss - losses[best] for name, loss in losses.items()}
    behind = {name: float(e.sum()) for name, e in excess.items()}
    error = {name: float(standard_error(e)) for name, e in excess.items()}
    chosen = next(name for name in METHODS if behind[name] <= error[name])
    total = library.gram.total
    return Choice(
        chosen,
        {name: 1 - float(loss.sum()) / total for name, loss in losses.items()},
        {name: value / total for name, value in behind.items()},
        {name: value / total for name, value in error.items()},
    )


def scaled(weights: Array, library: Library) -> Array:
    """(m, 5) weights, those of each target times the factor that fits the library best: a post-processing that corrects
    a tendency to predict too much or too little."""
    blended = combine(weights, library.predictions)
    square = (blended**2).sum(axis=0)
    factors = np.divide((blended * library.truth).sum(axis=0), square, out=np.ones(len(square)), where=square > 0)
    return np.asarray(weights * factors)


def scaling_pays(fit: Fit, library: Library, seed: int = 0) -> bool:
    """Whether the nested loss falls by more than one standard error over dates if each target is scaled."""
    if len(library.days) < 2:
        return False
    fits = {"plain": fit, "scaled": lambda part: scaled(fit(part), part)}
    predicted = nested_predictions(library, fits, deal(library, GROUPINGS, np.random.default_rng(seed)))
    gain = losses_by_day(library, predicted["plain"]) - losses_by_day(library, predicted["scaled"])
    return bool(gain.sum() > standard_error(gain))


def _fit(name: MethodName, options: Options, library: Library) -> Array:
    return fit_method(name, library, options)
