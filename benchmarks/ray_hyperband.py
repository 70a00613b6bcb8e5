"""Ray Tune's own HyperBandScheduler and BOHB (HyperBandForBOHB with TuneBOHB), as they come, replayed from a table."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandScheduler, TrialScheduler

from forage.replay.simulate import Strategy, Verdict
from forage.replay.snap import Snap
from forage.replay.table import Split, Table
from search_spaces.drawing import Labels
from search_spaces.space import Space
from tune.records.ledger import Record


class Searcher:
    """Proposes labels of a space; what it learns from, a subclass overrides.

    Attributes:
        ahead: how many proposals Ray Tune asks for before workers are free.
    """

    ahead: int = 1

    def draw(self, trial: str) -> Labels:
        """Labels of a new trial."""
        raise NotImplementedError

    def replace(self, trial: str, labels: Labels) -> None:
        """Take note of the labels that ran instead of those drawn."""

    def on_trial_result(self, trial: str, result: dict[str, Any]) -> None:
        """Take a report of a trial that continues or pauses."""

    def on_trial_complete(self, trial: str) -> None:
        """Take note of a trial's end."""

    def on_pause(self, trial: str) -> None:
        """Take note of a pause."""

    def on_unpause(self, trial: str) -> None:
        """Take note of the end of a pause."""


class RandomSearcher(Searcher):
    """Draws at random; Ray's own random search proposes up to 200 trials ahead.

    Args:
        space: to draw from.
        seed: of the draws.
    """

    ahead = 200

    def __init__(self, space: Space, seed: int) -> None:
        self.space = space
        self.study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))

    def draw(self, trial: str) -> Labels:
        """See `Searcher`."""
        return self.space.draw(self.study.ask())[0]


class RayHyperBand(Strategy):
    """Hyperband (Li et al. 2018) as Ray Tune ships it, with its reduction factor of 3.

    The trials of a bracket pause at a rung until all of them are there, then the best third continues. The last trials
    of a bracket run to their end (`stop_last_trials=False`): by default Ray stops them at the last rung, which it
    rounds to fewer epochs than `max_t`, and they would have no predictions. Ray's scheduler
    sees what Ray Tune would show it: this class stands in for the controller, and calls scheduler and searcher in the
    order in which `TuneController` calls them. Not simulated: the time that Ray takes to save and to load a trial.
    Where the scheduler pauses trials and never continues them, as it does at times, they never end.

    Args:
        table: the recipes. Proposals are snapped to the nearest one.
        split: what they do.
        trials: how many to propose.
        searcher: proposes.
        kind: of the scheduler.
    """

    def __init__(
        self,
        table: Table,
        split: Split,
        trials: int,
        searcher: Searcher,
        kind: type[HyperBandScheduler] = HyperBandScheduler,
    ) -> None:
        self.table, self.count, self.searcher, self.ahead = table, trials, searcher, searcher.ahead
        self.snap = Snap(table.space.parameters, [entry.labels for entry in table.entries])
        self.known = np.array([trained is not None for trained in split.trained])
        self.used = np.zeros(len(table.entries), dtype=bool)
        epochs = max(len(trained.scores) for trained in split.trained if trained is not None)
        self.scheduler = kind(time_attr="epoch", metric="score", mode="max", max_t=epochs, stop_last_trials=False)
        self.trials: list[_Trial] = []
        # What the schedulers use of a controller.
        self.search_alg = SimpleNamespace(searcher=searcher)

    def propose(self) -> tuple[Record, int] | None:
        """See `Strategy`."""
        if len(self.trials) == self.count:
            return None
        trial = _Trial(Record(len(self.trials), {}, {}, "PENDING"))
        drawn = self.searcher.draw(trial.trial_id)
        number = self.snap.nearest(drawn, self.known, self.used)
        self.used[number] = True
        trial.record.params = dict(self.table.entries[number].labels)
        self.searcher.replace(trial.trial_id, trial.record.params)
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        return trial.record, number

    def choose(self) -> Record | None:
        """See `Strategy`."""
        trial = self.scheduler.choose_trial_to_run(self)
        if trial is None:
            trial = next((each for each in self.trials if each.status == Trial.PENDING), None)
        if trial is None:
            return None
        trial.status = trial.record.status = Trial.RUNNING
        return trial.record  # type: ignore[no-any-return]

    def report(self, record: Record, report: dict[str, Any], finished: bool) -> Verdict:
        """See `Strategy`."""
        trial = self.trials[record.number]
        record.report(report)
        result = {"epoch": report["epoch"], "training_iteration": report["epoch"], "score": report["score"]}
        decision = TrialScheduler.STOP if finished else self.scheduler.on_trial_result(self, trial, result)
        trial.last_result, trial.finished = result, finished
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
            return "end"
        self.searcher.on_trial_result(trial.trial_id, result)
        if decision == TrialScheduler.PAUSE:
            trial.status = Trial.PAUSED
            return "pause"
        return "continue"

    def get_trials(self) -> list[_Trial]:
        """For the scheduler: all trials."""
        return self.trials

    def stop_trial(self, trial: _Trial) -> None:
        """For the scheduler: end a trial, running or not; as `TuneController.stop_trial`."""
        if trial.status == Trial.TERMINATED:
            return
        if trial.status == Trial.RUNNING:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
        self.searcher.on_trial_complete(trial.trial_id)
        trial.status = Trial.TERMINATED
        trial.record.status = "COMPLETE" if trial.finished else "PRUNED"


class _Trial:
    """What Ray's schedulers use of a trial."""

    def __init__(self, record: Record) -> None:
        self.record, self.trial_id = record, record.name
        self.status, self.is_saving, self.finished = Trial.PENDING, False, False
        self.last_result: dict[str, Any] = {}
