"""Remarks on the scores of a particular blend, which `forage ensemble` prints as warnings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.estimate.evidence import Evidence
from ensemble.estimate.scores import Estimate, StartPortfolio
from ensemble.estimate.tta_scores import ELEMENTS
from ensemble.members.pool import Pool
from ensemble.weighting.greedy import TIE
from ensemble.weighting.library import combine, shared
from ensemble.weighting.methods import METHODS, WIDEST
from ensemble.weighting.nested import standard_error
from ensemble.weighting.options import MethodChoice, Options
from pasture.dataset import BALANCE_TOLERANCE_G
from pasture.metric import total_ss, weighted_r2
from pasture.projection import project
from pasture.targets import WEIGHTS, Array, balance_gap
from trainables.images.d4 import tta_elements
from trainables.recipe.sections import TtaName


def remarks(pool: Pool, estimate: Estimate, method: MethodChoice, options: Options, chosen: Sequence[int]) -> list[str]:
    """One line each, where there is something to say.

    Args:
        pool: the members that could be chosen.
        estimate: of the blend.
        method: that was asked for.
        options: of greedy selection.
        chosen: positions of the blend's members in the pool.
    """
    lines = [
        _plain_mean_is_better(estimate, method),
        _level_with_the_start(estimate.start) if estimate.start else None,
        _not_all_considered(len(pool.members), method, options),
        _out_of_balance(pool, estimate, chosen),
    ]
    return [line for line in lines if line]


def tta_remarks(evidence: Evidence, tta: TtaName) -> list[str]:
    """One line where fewer elements of D4 than those of the blend's TTA score better.

    With the difference stands its standard error over dates, from the paired losses on each date.
    """
    own = tta_elements(tta)
    fewer = [elements for elements in ELEMENTS.values() if len(elements) < len(own)]
    if not fewer:
        return []
    losses = {elements: _losses_by_date(evidence, elements) for elements in [*fewer, own]}
    best = min(fewer, key=lambda elements: losses[elements].sum())
    excess = (losses[own] - losses[best]) / total_ss(evidence.truth)
    if excess.sum() <= TIE:
        return []
    error = f" ± {standard_error(excess):.4f} (standard error over dates)" if len(excess) > 1 else ""
    return [
        f"test-time augmentation does not help this blend: R2 with {len(own)} elements of D4 minus that with "
        f"{len(best)} is {-excess.sum():+.4f}{error}, out of fold"
    ]


def _losses_by_date(evidence: Evidence, elements: tuple[int, ...]) -> Array:
    loss = (evidence.truth - evidence.blended(elements)) ** 2 @ WEIGHTS
    return np.asarray(np.bincount(np.unique(evidence.dates, return_inverse=True)[1], weights=loss), dtype=np.float64)


def _plain_mean_is_better(estimate: Estimate, method: MethodChoice) -> str | None:
    nested, uniform = estimate.nested, estimate.uniform_nested
    if method in ("auto", "best-k") or nested is None or uniform is None or uniform <= nested + TIE:
        return None
    return (
        f"on new dates the plain mean of all candidates scores {uniform:.4f}, more than this blend: there are too few "
        "dates for so much choice; try --method best-k or uniform"
    )


def _level_with_the_start(start: StartPortfolio) -> str | None:
    if not start.level:
        return None
    return (
        f"the search shows no gain over its start recipes: on new dates, the R2 of this blend minus that of the plain "
        f"mean of the {start.members} start recipe(s), {start.nested:.4f}, is {start.ahead:+.4f} ± {start.error:.4f} "
        "(standard error over dates)"
    )


def _not_all_considered(candidates: int, method: MethodChoice, options: Options) -> str | None:
    solving = method == "auto" or METHODS[method].solves
    if not solving or candidates <= WIDEST or options.limited:
        return None
    names = ", ".join(name for name, solver in METHODS.items() if solver.solves)
    return (
        f"methods that solve for all weights at once ({names}) have only considered the {WIDEST} best of {candidates} "
        "candidates"
    )


def _out_of_balance(pool: Pool, estimate: Estimate, chosen: Sequence[int]) -> str | None:
    gap = max(float(balance_gap(pool.members[i].predictions).max()) for i in chosen)
    if gap <= BALANCE_TOLERANCE_G or not shared(estimate.weights):
        return None
    projected = weighted_r2(pool.truth, project(combine(estimate.weights, pool.predictions)))
    return (
        f"external members break the mass balance by up to {gap:.2f} g; scores are of predictions as they are, "
        "`forage predict` projects the blend onto the balance: "
        f"fitted {estimate.fitted:.4f}, projected {projected:.4f}"
    )
