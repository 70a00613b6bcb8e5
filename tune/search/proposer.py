"""Proposes trials: Optuna's samplers behind Ray Tune's searcher interface.

Ray's own OptunaSearch tells a pruned trial as complete, with the score of a few epochs, and leaves one that failed
running for ever; here PRUNED, FAIL and COMPLETE are told as what they are.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import Any

import optuna
import ray.tune.search
from optuna.trial import FrozenTrial, TrialState

from pasture.errors import InputError
from search_spaces.space import Space
from trainables.recipe.seeds import mix
from tune.records.ledger import Ledger, Record, Status
from tune.records.plan import Search

_STATES: dict[Status, TrialState] = {
    "COMPLETE": TrialState.COMPLETE,
    "PRUNED": TrialState.PRUNED,
    "WAITING": TrialState.PRUNED,  # nothing but its first epochs is known of it
    "FAILED": TrialState.FAIL,
}
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Proposer(ray.tune.search.Searcher):  # type: ignore[misc]
    """Draws recipes from a space and learns from how they did.

    The sampler is seeded anew for every proposal by (seed, number): a proposal depends on the history alone, so
    that a resumed search proposes what an undisturbed one would have.

    Args:
        space: what may vary.
        search: `optuna` (TPE, Bergstra et al. 2011, multivariate and grouped for conditions) or `random`.
        seed: of the search.
        trials: how many to propose in all, those of earlier sessions counted.
        ledger: proposals are written to it before they run; those of earlier sessions are told to Optuna, and those
            that have not ended are proposed again first.
        configure: makes the configuration of a trial from its record.
        promoted: names of the trials that wait and go on now.
    """

    def __init__(
        self,
        space: Space,
        search: Search,
        seed: int,
        trials: int,
        ledger: Ledger,
        configure: Callable[[Record], dict[str, Any]],
        promoted: Collection[str] = (),
    ) -> None:
        super().__init__(metric="score", mode="max")
        self.space, self.search, self.seed, self.trials = space, search, seed, trials
        self.ledger, self.configure = ledger, configure
        self.study = optuna.create_study(direction="maximize", sampler=self._sampler(0))
        self.asked: dict[str, optuna.Trial] = {}
        self.unfinished: list[Record] = []
        for record in ledger.records.values():
            if record.status in ("PENDING", "RUNNING") or record.name in promoted:
                self.study.enqueue_trial(record.params)
                self.asked[record.name] = self.study.ask()
                self.space.draw(self.asked[record.name])
                self.unfinished.append(record)
            else:
                self.study.add_trial(self._told(record))

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Configuration of the next trial: one that a former session left unfinished, else a new proposal."""
        record = self.unfinished.pop(0) if self.unfinished else self._propose()
        if record is None:
            return str(self.FINISHED)
        return self.configure(record)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the outcome is told by `tell`, which knows whether the trial was pruned."""

    def tell(self, record: Record) -> None:
        """Tell Optuna how a trial has ended, or its first stage."""
        asked = self.asked.pop(record.name)
        state = _STATES[record.status]
        # All at the end: the ledger's curve is whole, whatever worker or session each epoch ran in.
        for report in record.curve:
            asked.report(report["score"], report["epoch"])
        self.study.tell(asked, record.score if state == TrialState.COMPLETE else None, state)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger holds it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: see `__init__`."""

    def _propose(self) -> Record | None:
        while len(self.ledger.records) < self.trials:
            self.study.sampler = self._sampler(self.ledger.next_number)
            asked = self.study.ask()
            try:
                params, recipe = self.space.draw(asked)
            except InputError as error:
                # Fields that are fine one by one may not go together; the sampler learns that from the failure.
                self.ledger.propose(dict(asked.params), None, str(error))
                self.study.tell(asked, state=TrialState.FAIL)
                continue
            record = self.ledger.propose(params, recipe)
            self.asked[record.name] = asked
            return record
        return None

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = mix(self.seed, number)
        if self.search == "random":
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)

    def _told(self, record: Record) -> FrozenTrial:
        probe = _Distributions(record.params)
        if record.recipe:
            self.space.draw(probe)
        return optuna.trial.create_trial(
            state=_STATES[record.status],
            value=None if record.status == "FAILED" else record.score,
            params={name: record.params[name] for name in probe.distributions},
            distributions=probe.distributions,
            intermediate_values={report["epoch"]: report["score"] for report in record.curve},
        )


class _Distributions:
    """Draws what was drawn before and notes from which distribution: Optuna wants both for a trial it has not run."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.distributions: dict[str, optuna.distributions.BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.distributions[name] = optuna.distributions.CategoricalDistribution(choices)
        return self.params[name]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.distributions[name] = optuna.distributions.FloatDistribution(low, high, log=log)
        return float(self.params[name])

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.distributions[name] = optuna.distributions.IntDistribution(low, high)
        return int(self.params[name])
