"""A way of blending as an object: what is decided on dates held out, then the fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ensemble.weighting.library import Library
from ensemble.weighting.options import MethodName
from pasture.targets import Array

Fit = Callable[[Library], Array]
"""Computes the (m, 5) weights of a blend from a library of m members."""


@dataclass(frozen=True)
class Choice:
    """The method that was chosen, and why.

    Attributes:
        name: the method.
        scores: nested R2 of every method, from the simplest to the most flexible.
        behind: R2 by which every method is behind the best, on average over the groupings.
        error: standard error of that over dates.
    """

    name: MethodName
    scores: dict[MethodName, float]
    behind: dict[MethodName, float]
    error: dict[MethodName, float]


class Decided(NamedTuple):
    """Result of a procedure on a library.

    Attributes:
        fit: makes the blend.
        choice: the choice of the method; None where the method was given.
    """

    fit: Fit
    choice: Choice | None = None


Procedure = Callable[[Library], Decided]
"""A whole procedure: from a library to what is decided by scores on dates held out. The weights are
`procedure(library).fit(library)`; see `whole`."""


def whole(procedure: Procedure) -> Fit:
    """Decide and fit on the same library."""
    return lambda library: procedure(library).fit(library)


def once(procedure: Procedure) -> Procedure:
    """The same procedure, which decides once for each set of dates of one library."""
    decided: dict[bytes, Decided] = {}

    def decide(library: Library) -> Decided:
        days = library.days.tobytes()
        if days not in decided:
            decided[days] = procedure(library)
        return decided[days]

    return decide
