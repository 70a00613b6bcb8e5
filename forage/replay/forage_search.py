"""The searcher and the pruner of `forage sweep`, replayed."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from optuna.trial import TrialState

from forage.replay.simulate import Strategy, Verdict
from forage.replay.snap import Snap
from forage.replay.table import Split, Table
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.pruning.pruners import make_pruner
from tune.pruning.scheduler import PruningScheduler
from tune.records.ledger import Ledger, Record
from tune.records.plan import Limits, Search
from tune.search.optuna_searcher import OptunaSearcher, Start


class ForageSearch(Strategy):
    """The searcher, pruner and scheduler of `forage sweep`, on a ledger in memory.

    Proposals are snapped to the nearest tabulated recipe, and Optuna is told the labels of that recipe.

    Args:
        table: the recipes.
        limits: number of trials, pruner and its options, whether start recipes run first.
        search: how trials are proposed.
        seed: of the search.
    """

    def __init__(self, table: Table, split: Split, limits: Limits, search: Search, seed: int) -> None:
        self.split = split
        self.ledger = MemoryLedger()
        epochs = max(len(trained.scores) for trained in split.trained if trained is not None)
        pruner = make_pruner(limits.pruner, epochs, grace=limits.grace, reduction=limits.reduction)
        self.scheduler = PruningScheduler(self.ledger, pruner)
        self.searcher = _SnappingSearcher(table, split, self.ledger, limits, search, seed)

    def propose(self) -> tuple[Record, int] | None:
        """See `Strategy`."""
        name = self.searcher.suggest("")
        if isinstance(name, str):
            return None
        record = self.ledger.records[name["trial"]]
        record.status = "RUNNING"
        return record, self.searcher.entry[record.name]

    def report(self, record: Record, report: dict[str, Any], finished: bool) -> Verdict:
        """See `Strategy`."""
        trial = SimpleNamespace(config={"trial": record.name})
        result = {"epoch": report["epoch"], "report": tuple(report.items()), "finished": finished, "done": finished}
        if finished:
            self.scheduler.on_trial_complete(None, trial, result)
        elif self.scheduler.on_trial_result(None, trial, result) == self.scheduler.STOP:
            finished = True
        record.report(report)
        if finished:
            record.status = self.scheduler.outcome(record.name, result)
            self.searcher.report_end(record)
        return "end" if finished else "continue"


class MemoryLedger(Ledger):
    """A ledger without files."""

    def __init__(self) -> None:
        self.run = RunFolder("/nowhere")
        self.records = {}
        self._free = 0
        self._proposed_at = {}

    def write(self, record: Record) -> None:
        """Does nothing."""


class _SnappingSearcher(OptunaSearcher):
    """Replaces what the sampler proposes by a tabulated recipe.

    Attributes:
        entry: number of every trial's recipe in the table, by the trial's name.
    """

    def __init__(self, table: Table, split: Split, ledger: Ledger, limits: Limits, search: Search, seed: int) -> None:
        self.entries, self.entry = table.entries, dict[str, int]()
        self.snap = Snap(table.space.parameters, [entry.labels for entry in table.entries])
        self.known = np.array([trained is not None for trained in split.trained])
        self.used = np.zeros(len(table.entries), dtype=bool)
        self.first = (
            [n for n, entry in enumerate(table.entries) if entry.start and self.known[n]] if limits.start else []
        )
        starts: Sequence[Start] = [(self.entries[n].labels, Recipe.parse(self.entries[n].recipe)) for n in self.first]
        super().__init__(
            table.space,
            ledger,
            lambda record: {"trial": record.name},
            trials=limits.trials,
            search=search,
            seed=seed,
            starts=starts,
            per_second=limits.objective == "score-per-second",
        )

    def _propose(self) -> Record | None:
        record = super()._propose()
        if record is None:
            return None
        if record.origin == "start":
            number = self.first[record.number]
        else:
            number = self.snap.nearest(record.params, self.known, self.used)
            labels = self.entries[number].labels
            if labels != record.params:
                # Optuna is told of the recipe that ran. TPE ignores the failed trial.
                self.study.tell(self.running.pop(record.name), state=TrialState.FAIL)
                record.params, record.recipe = dict(labels), self.entries[number].recipe
                self._add_running(record)
        self.used[number] = True
        self.entry[record.name] = number
        return record
