"""Greedy forward selection of members with replacement, on the Gram matrix of their weighted residuals.

R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes: Ensemble Selection from Libraries of Models, ICML 2004.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.weighting.options import Options
from pasture.metric import total_ss
from pasture.targets import WEIGHTS, Array

TIE = 1e-12
"""Two scores (R2) that differ by no more than this are equal."""

_Mask = NDArray[np.bool_]


class Gram:
    """Inner products of the members' weighted residuals: all that a blend's score depends on.

    With r_m = sqrt(w_t) (yhat_mit - y_it) over all images i and targets t, and G = (r_m . r_k), a blend with weights a
    that sum to 1 has the residual sum of squares a'Ga exactly, hence R2 = 1 - a'Ga / total.

    G is never built: greedy selection needs only the columns of the members that it picks, and each is computed,
    once, when it is first asked for.

    Attributes:
        residuals: (m, 5n) weighted residuals, in grams.
        diagonal: (m,) residual sum of squares of each member alone.
        total: weighted sum of squares of the truth about its mean.
    """

    def __init__(self, truth: Array, predictions: Array) -> None:
        """From (n, 5) truth and (m, n, 5) predictions, both in grams."""
        self.residuals: Array = (predictions - truth).reshape(len(predictions), -1)
        self.residuals *= np.tile(np.sqrt(WEIGHTS), len(truth))  # in place: these are the largest arrays of a selection
        self.diagonal: Array = np.einsum("mr,mr->m", self.residuals, self.residuals)
        self.total = total_ss(truth)
        self._columns: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self.residuals)

    def column(self, member: int) -> Array:
        """(m,) inner products of all members with one."""
        if member not in self._columns:
            self._columns[member] = self.residuals @ self.residuals[member]
        return self._columns[member]

    def r2(self, weights: Array) -> float:
        """Score of the blend with (m,) weights that sum to 1."""
        blended = weights @ self.residuals
        return 1.0 - float(blended @ blended) / self.total

    def members_r2(self) -> Array:
        """(m,) score of each member alone."""
        return 1.0 - self.diagonal / self.total


@dataclass(frozen=True, eq=False)
class Selection:
    """Result of a selection.

    Attributes:
        weights: (m,) at least 0, sum 1; most are 0.
        path: the members in the order in which they were picked, one a step; empty where bags were averaged.
        curve: R2 of the equal-weight mean of the picks so far, one a step.
        prefix: number of steps that `weights` were made from, before any was dropped as too small.
    """

    weights: Array
    path: tuple[int, ...] = ()
    curve: tuple[float, ...] = ()
    prefix: int = 0


def greedy(gram: Gram, backbones: Sequence[str], options: Options | None = None) -> Selection:
    """Greedy forward selection with replacement; the best prefix of the path is returned.

    Every step adds, with one more unit of weight, the member that leaves the blend with the highest R2. If the blend
    of k picks has counts c, then k^2 times its residual sum of squares is q = c'Gc, and with s = Gc member j would
    make it q + 2 s_j + G_jj: one step costs O(m), whatever the number of images.

    Equal scores (to `TIE`) go to the member that adds no backbone, then to the first member; equal prefixes to the
    shortest, which has the fewest backbones. With members in the order of their keys the result is deterministic.

    Args:
        gram: of m members.
        backbones: m names.
        options: plain greedy selection where None.
    """
    options = options or Options()
    backbone = np.unique(np.asarray(backbones), return_inverse=True)[1]
    m = len(gram)
    if not options.bags:
        selection = _walk(gram, backbone, np.ones(m, dtype=bool), options)
        weights = _trim(selection.weights, backbone, options)
        return Selection(weights, selection.path, selection.curve, selection.prefix)
    rng = np.random.default_rng(options.seed)
    size = max(1, round(options.bag_fraction * m))
    total = np.zeros(m)
    for _ in range(options.bags):
        bag = np.zeros(m, dtype=bool)
        bag[rng.choice(m, size, replace=False)] = True
        total += _walk(gram, backbone, bag, options).weights
    return Selection(_trim(total / options.bags, backbone, options))


def _walk(gram: Gram, backbone: NDArray[np.intp], library: _Mask, options: Options) -> Selection:
    """One greedy path through the members of `library` (m,)."""
    counts = np.zeros(len(gram), dtype=np.int64)
    used = np.zeros(len(backbone), dtype=bool)  # of each backbone, whether a pick has it
    added = gram.diagonal.copy()  # by what each member would raise q: 2 s + diag(G), s = G c
    square = 0.0  # q = c'Gc
    path: list[int] = []
    curve: list[float] = []
    for size in range(1, options.steps + 1):
        allowed = library & _within_limits(counts > 0, backbone, options) if options.limited else library
        warming = size <= options.warm_start and bool((fresh := allowed & (counts == 0)).any())
        loss = np.where(fresh, gram.diagonal, np.inf) if warming else np.where(allowed, added, np.inf)
        tie = TIE * gram.total * (1 if warming else size**2)
        equal = (loss <= loss.min() + tie).nonzero()[0]
        pick = int(equal[used[backbone[equal]].argmax()])

        square += float(added[pick])
        score = 1.0 - square / size**2 / gram.total
        if options.min_gain is not None and curve and not warming and score - curve[-1] < options.min_gain:
            break
        added += 2 * gram.column(pick)
        counts[pick] += 1
        used[backbone[pick]] = True
        path.append(pick)
        curve.append(score)
    prefix = int(np.argmax(np.asarray(curve) >= max(curve) - TIE)) + 1
    weights = np.bincount(path[:prefix], minlength=len(gram)) / prefix
    return Selection(weights, tuple(path), tuple(curve), prefix)


def _within_limits(chosen: _Mask, backbone: NDArray[np.intp], options: Options) -> _Mask:
    """(m,) whether each member could be chosen besides those that are."""
    allowed = np.ones(len(chosen), dtype=bool)
    if options.max_members is not None and chosen.sum() >= options.max_members:
        allowed &= chosen
    if options.max_backbones is not None and len(used := np.unique(backbone[chosen])) >= options.max_backbones:
        allowed &= np.isin(backbone, used)
    return allowed


def _trim(weights: Array, backbone: NDArray[np.intp], options: Options) -> Array:
    """Drop the tiny weights, and the lightest where an average of bags exceeds a limit that each bag kept."""
    if not options.limited and not options.min_weight:
        return weights
    kept = np.zeros_like(weights)
    for member in np.argsort(-weights, kind="stable"):
        tiny = weights[member] < options.min_weight and kept.any()
        if weights[member] == 0 or tiny:
            break
        if _within_limits(kept > 0, backbone, options)[member]:
            kept[member] = weights[member]
    return np.asarray(kept / kept.sum())
