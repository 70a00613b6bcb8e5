from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import ArrayLike

from tune.pruning.asha_pruner import AshaPruner
from tune.pruning.paired_pruner import PairedPruner, _losses_at_cutoff, _standard_error_of_sum
from tune.pruning.rungs import Entry, RungPruner

SST = 10.0


def judge(pruner: RungPruner, trial: str, losses: ArrayLike) -> bool:
    losses = np.asarray(losses, dtype=float)
    return pruner.judge(trial, {"epoch": 1, "score": 1 - losses.sum() / SST, "date_losses": losses.tolist()})


def test_a_hand_worked_example() -> None:
    pruner = PairedPruner((1,))
    assert judge(pruner, "a", [1, 2, 3])  # the first
    # Behind by (0 1 2) = 3 in all, with a standard error of sqrt(3/2 * 2) = 1.73.
    assert not judge(pruner, "b", [1, 3, 5])
    # The cut-off lies a third of the way from a to b: (1 2.33 3.67). Behind by (3 -.33 -1.67) = 1, with a standard
    # error of sqrt(3/2 * (2.67^2 + .67^2 + 2^2)) = 4.16.
    assert judge(pruner, "c", [4, 2, 2])
    # The cut-off lies two thirds of the way from a to c: (3 2 2.33). Behind by 1 on every date: no noise.
    assert not judge(pruner, "d", [4, 3, 10 / 3])
    assert judge(pruner, "e", [1, 1, 1])


def test_the_standard_error_is_that_of_a_jackknife_over_dates() -> None:
    differences = np.random.default_rng(0).normal(size=12)
    # The sum over 12 dates, estimated from 11 of them.
    left_out = (differences.sum() - differences) * 12 / 11
    jackknife = np.sqrt(11 / 12 * ((left_out - left_out.mean()) ** 2).sum())
    assert _standard_error_of_sum(differences) == pytest.approx(jackknife)
    assert _standard_error_of_sum(np.array([3.0])) == 0
    assert _standard_error_of_sum(np.full(5, 3.0)) == pytest.approx(0)


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_the_cut_off_is_ashas(reduction: int) -> None:
    rng = np.random.default_rng(reduction)
    for count in range(1, 12):
        losses = rng.gamma(2, size=(count, 5))
        entries = [Entry(1 - float(loss.sum()) / SST, tuple(loss), True) for loss in losses]
        cutoff = np.percentile([entry.score for entry in entries], 100 * (1 - 1 / reduction))
        assert 1 - _losses_at_cutoff(entries, reduction).sum() / SST == pytest.approx(cutoff)


@pytest.mark.parametrize("seed", range(5))
def test_without_noise_it_is_asha(seed: int) -> None:
    rng = np.random.default_rng(seed)
    asha, paired = AshaPruner((1,)), PairedPruner((1,))
    dates = rng.gamma(2, size=6)  # some dates are harder, by as much for all trials
    decisions = []
    for trial in range(40):
        loss = dates + rng.gamma(2)
        decisions.append(judge(asha, str(trial), loss))
        assert judge(paired, str(trial), loss) == decisions[-1]
    assert 5 < sum(decisions) < 30


def test_with_noise_it_prunes_fewer_and_only_what_asha_prunes() -> None:
    rng = np.random.default_rng(0)
    asha, paired = AshaPruner((1,)), PairedPruner((1,))
    decisions = []
    for trial in range(60):
        loss = rng.gamma(2, size=28) + rng.normal(0, 0.2)
        decisions.append((judge(asha, str(trial), loss), judge(paired, str(trial), loss)))
    assert all(by_paired for by_asha, by_paired in decisions if by_asha)
    pruned_by_asha, pruned_by_paired = (sum(not d[i] for d in decisions) for i in (0, 1))
    assert 0 < pruned_by_paired < pruned_by_asha


def test_trials_scored_on_other_dates_are_not_compared() -> None:
    pruner = PairedPruner((1,))
    assert judge(pruner, "a", [1, 1, 1])
    assert judge(pruner, "b", [9, 9])
    assert not judge(pruner, "c", [10, 10])


def test_a_report_without_date_losses_is_an_error() -> None:
    pruner = PairedPruner((1,))
    pruner.judge("a", {"epoch": 1, "score": 0.5})
    with pytest.raises(ValueError, match="date_losses"):
        pruner.judge("b", {"epoch": 1, "score": 0.5})
