"""Choosing by dates held out: the method, and whether to scale targets. The simpler stays unless the other is better
by more than one standard error (L. Breiman et al.: Classification and Regression Trees, 1984, section 3.4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from ensemble.weighting.greedy import Options
from ensemble.weighting.library import Library, combine
from ensemble.weighting.methods import METHODS, MethodName, fit_method
from ensemble.weighting.nested import Fit, Procedure, deal, losses_by_day, nested_predictions
from pasture.targets import Array

Chosen = MethodName | Literal["auto"]

GROUPINGS = 2
"""How often the dates are dealt anew to choose."""


def procedure(method: Chosen, options: Options, scale: bool = False) -> Procedure:
    """The whole way from a library to weights, choices included.

    Args:
        method: a method's name, or `auto` for the one that `choose` takes.
        options: of greedy selection; limits hold for every method.
        scale: whether each target may have a factor of its own, where that pays (`scaling_pays`).
    """

    def decide(library: Library) -> Fit:
        name = choose(library, options).name if method == "auto" else method
        plain = partial(_fit, name, options)
        return (lambda part: scaled(plain(part), part)) if scale and scaling_pays(plain, library) else plain

    return decide


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        name: the method.
        scores: nested R2 of every method, from the simplest to the freest.
        behind: R2 by which every method is behind the best, on average over the groupings.
        error: standard error of that over dates.
    """

    name: MethodName
    scores: dict[MethodName, float]
    behind: dict[MethodName, float]
    error: dict[MethodName, float]


def choose(library: Library, options: Options, seed: int = 0) -> Choice:
    """The simplest method that is not worse than the best by more than one standard error.

    Every method is judged by its nested predictions (`nested_predictions`, 2 groupings). That of least loss is the
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
    error = {name: standard_error(e) for name, e in excess.items()}
    chosen = next(name for name in METHODS if behind[name] <= error[name])
    total = library.gram.total
    return Choice(
        chosen,
        {name: 1 - float(loss.sum()) / total for name, loss in losses.items()},
        {name: value / total for name, value in behind.items()},
        {name: value / total for name, value in error.items()},
    )


def scaled(weights: Array, library: Library) -> Array:
    """(m, 5) weights, those of each target times the factor that fits the library best: a post-processing that undoes a
    tendency to predict too much or too little."""
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


def standard_error(by_day: Array) -> float:
    """Of the sum of (days,) independent numbers."""
    return float(np.sqrt(len(by_day) * by_day.var(ddof=1)))
