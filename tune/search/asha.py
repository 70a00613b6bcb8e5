"""Asynchronous successive halving (ASHA): stop a trial that is not among the best at a rung.

Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020, algorithm 2, in the stopping form that Ray
Tune has too. Ours is here because Ray's forgets its rungs on restart: these are rebuilt from the trials' curves.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import ray.tune.schedulers

from tune.records.ledger import Ledger, Status

REDUCTION = 3


class Rungs:
    """Scores of trials at a few epochs.

    Args:
        epochs: of a whole trial.
        reduction: a trial goes on if it is among the best 1/reduction at its rung. Rungs lie at epochs /
            reduction and epochs / reduction^2, rounded up.
        least: or if it is among that many of the best, so that no fewer ever pass.
    """

    def __init__(self, epochs: int, reduction: int = REDUCTION, least: int = 0) -> None:
        self.reduction, self.least = reduction, least
        marks = {math.ceil(epochs / reduction**2), math.ceil(epochs / reduction)} - {epochs}
        self.scores: dict[int, dict[str, float]] = {mark: {} for mark in sorted(marks)}

    def record(self, trial: str, epoch: int, score: float) -> bool:
        """Note a score; True if the trial may go on.

        It may if it scores at least what the best 1/reduction of those noted here before it score, or the best `least`
        of them; the first at a rung always may. A trial is judged once at each rung, and only where it reports that
        very epoch.
        """
        rung = self.scores.get(epoch)
        if rung is None or trial in rung:
            return True
        cutoff = np.percentile(list(rung.values()), 100 * (1 - 1 / self.reduction)) if rung else -math.inf
        better = sum(other > score for other in rung.values())
        rung[trial] = score
        return bool(score >= cutoff) or better < self.least


class AshaScheduler(ray.tune.schedulers.FIFOScheduler):  # type: ignore[misc]
    """Ray Tune's view of the rungs. Rungs are keyed by our trial names, which outlive a session of Ray's.

    Args:
        epochs: of a whole trial.
        ledger: curves of earlier sessions are put back into the rungs.
        cut: epoch at which every trial is stopped to wait for its promotion, whatever its score; None for none.
        promote: how many trials are to be promoted: below the cut no fewer are left.
    """

    def __init__(self, epochs: int, ledger: Ledger, cut: int | None = None, promote: int | None = None) -> None:
        super().__init__()
        self.rungs, self.cut = Rungs(epochs, least=promote or 0), cut
        self.pruned: set[str] = set()
        for record in ledger.records.values():
            for report in record.curve:
                self.rungs.record(record.name, report["epoch"], report["score"])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that is not among the best at a rung, or that is to wait."""
        name = trial.config["trial"]
        if "error" in result:
            return str(self.CONTINUE)
        among_the_best = self.rungs.record(name, result["epoch"], result["score"])
        if result["epoch"] == self.cut:
            return str(self.STOP)
        if among_the_best:
            return str(self.CONTINUE)
        self.pruned.add(name)
        return str(self.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """A short trial that ends at a rung counts there too, as it does when rungs are rebuilt."""
        if "error" not in result:
            self.rungs.record(trial.config["trial"], result["epoch"], result["score"])

    def outcome(self, name: str, result: dict[str, Any]) -> Status:
        """How a trial has ended, from its last result."""
        if result.get("finished"):
            return "COMPLETE"
        if name in self.pruned:
            return "PRUNED"
        return "WAITING" if self.cut is not None and result.get("epoch") == self.cut else "FAILED"
