"""Ray Tune's view of pruning: stops trials that the pruner does not let continue, or that wait for promotion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray.tune.schedulers
from ray.tune.experiment import Trial

from tune.pruning.pruners import Pruner
from tune.records.ledger import Ledger, Status

Choose = Callable[[Sequence[Trial]], Trial | None]


def oldest(pending: Sequence[Trial]) -> Trial | None:
    """The first trial, or None if there is none."""
    return pending[0] if pending else None


class PruningScheduler(ray.tune.schedulers.FIFOScheduler):  # type: ignore[misc]
    """Stops trials early. Only searched trials are ever stopped: start trials run to their end.

    Args:
        ledger: the pruner is given the curves of earlier sessions from it.
        pruner: decides; trials go by their names in the ledger, which are the same in every session.
        cut: epoch after which a searched trial stops and waits for its promotion, whatever its score; None for none.
        choose: chooses the trial that a free worker takes from those without a worker, oldest first.
    """

    def __init__(self, ledger: Ledger, pruner: Pruner, cut: int | None = None, choose: Choose = oldest) -> None:
        super().__init__()
        self.ledger, self.pruner, self.cut, self.choose = ledger, pruner, cut, choose
        self.pruned: set[str] = set()
        for name, record in ledger.records.items():
            for report in record.curve:
                self._judge(name, report)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The trial that a free worker takes, or None."""
        return self.choose([trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that the pruner does not let continue, or that waits for its promotion."""
        if "error" in result:
            return str(self.CONTINUE)
        name = trial.config["trial"]
        continues = self._judge(name, dict(result["report"]))
        if result["epoch"] == self.cut and self._searched(name):
            return str(self.STOP)
        if continues:
            return str(self.CONTINUE)
        self.pruned.add(name)
        return str(self.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Record the last report of a short trial, which may lie at a rung."""
        if "error" not in result:
            self._judge(trial.config["trial"], dict(result["report"]))

    def outcome(self, name: str, result: dict[str, Any]) -> Status:
        """How a trial has ended, from its last result."""
        if result.get("finished"):
            return "COMPLETE"
        if name in self.pruned:
            return "PRUNED"
        return "WAITING" if self.cut is not None and result.get("epoch") == self.cut else "FAILED"

    def _judge(self, name: str, report: dict[str, Any]) -> bool:
        return self.pruner.judge(name, report, self._searched(name))

    def _searched(self, name: str) -> bool:
        return self.ledger.records[name].origin == "search"
