"""What the reader of a blend's scores should know about this blend in particular."""

from __future__ import annotations

from collections.abc import Sequence

from ensemble.estimate.scores import Estimate, StartPortfolio
from ensemble.members.pool import Pool
from ensemble.weighting.greedy import TIE
from ensemble.weighting.library import combine, shared
from ensemble.weighting.methods import METHODS, WIDEST
from ensemble.weighting.options import MethodChoice, Options
from pasture.dataset import BALANCE_TOLERANCE_G
from pasture.metric import weighted_r2
from pasture.projection import project
from pasture.targets import balance_gap


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
        f"the search does not show: on new dates this blend is {start.ahead:+.4f} ± {start.error:.4f} (standard error "
        f"over dates) against the plain mean of the {start.members} start recipe(s), which were not searched "
        f"({start.nested:.4f})"
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
