"""Ray Tune's own OptunaSearch and ASHAScheduler, as they come, replayed from a table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from forage.replay.simulate import Strategy, Verdict
from forage.replay.snap import Snap
from forage.replay.table import Split, Table
from tune.records.ledger import Record


class RaySearch(Strategy):
    """A strategy of `forage.replay.simulate`: `OptunaSearch(space)` with `ASHAScheduler(max_t=epochs)`.

    Both with Ray's defaults: TPE without groups, one bracket, grace period of 1 epoch, reduction factor 4; a stopped
    trial is reported to Optuna as complete, with its last score.

    Args:
        table: the recipes. Proposals are snapped to the nearest one.
        split: what they do.
        trials: how many to propose.
        seed: of the sampler.
    """

    ahead = 1  # Ray Tune's default for searchers

    def __init__(self, table: Table, split: Split, trials: int, seed: int) -> None:
        self.table, self.trials = table, trials
        self.snap = Snap(table.space.parameters, [entry.labels for entry in table.entries])
        self.known = np.array([trained is not None for trained in split.trained])
        self.used = np.zeros(len(table.entries), dtype=bool)
        epochs = max(len(trained.scores) for trained in split.trained if trained is not None)
        study: dict[str, Any] = {"study_name": "replay", "sampler": TPESampler(seed=seed), "storage": InMemoryStorage()}
        self.searcher = OptunaSearch(lambda trial: self._draw(trial), metric="score", mode="max", **study)
        self.study = optuna.load_study(**study)
        self.scheduler = ASHAScheduler(time_attr="epoch", metric="score", mode="max", max_t=max(2, epochs))
        self.drawn: dict[str, Any] = {}
        self.count = 0

    def propose(self) -> tuple[Record, int] | None:
        """See `Strategy`."""
        if self.count == self.trials:
            return None
        record = Record(self.count, {}, {}, "RUNNING")
        self.count += 1
        self.searcher.suggest(record.name)
        number = self.snap.nearest(self.drawn, self.known, self.used)
        self.used[number] = True
        record.params = dict(self.table.entries[number].labels)
        if record.params != self.drawn:
            # As for forage: Optuna is told of the recipe that ran.
            self.study.tell(self.searcher._ot_trials[record.name], state=TrialState.FAIL)
            self.study.enqueue_trial(record.params)
            self.searcher._ot_trials[record.name] = trial = self.study.ask()
            self._draw(trial)
        self.scheduler.on_trial_add(None, SimpleNamespace(trial_id=record.name))
        return record, number

    def report(self, record: Record, report: dict[str, Any], finished: bool) -> Verdict:
        """See `Strategy`."""
        record.report(report)
        trial = SimpleNamespace(trial_id=record.name)
        result = {"epoch": report["epoch"], "training_iteration": report["epoch"], "score": report["score"]}
        if finished:
            self.scheduler.on_trial_complete(None, trial, result)
        elif self.scheduler.on_trial_result(None, trial, result) == self.scheduler.CONTINUE:
            self.searcher.on_trial_result(record.name, result)
            return "continue"
        self.searcher.on_trial_complete(record.name, result)
        record.status = "COMPLETE" if finished else "PRUNED"
        return "end"

    def _draw(self, trial: Any) -> dict[str, Any]:
        self.drawn = dict(self.table.space.draw(trial)[0])
        return {}
