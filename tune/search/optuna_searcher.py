"""Proposes trials: the space's start recipes first, then samples of Optuna, behind Ray Tune's searcher interface.

Ray's own OptunaSearch reports a pruned trial to Optuna as complete, with the score of a few epochs, and leaves a failed
trial running for ever. This searcher reports the states as they are: COMPLETE, PRUNED or FAIL.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import optuna
import ray.tune.search
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from pasture.errors import InputError
from search_spaces.parameter import Label
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from trainables.recipe.seeds import mix
from tune.records.ledger import Ledger, Record, Status
from tune.records.plan import Search
from tune.records.trial_cost import TrialCost

Start = tuple[dict[str, Label], Recipe]
"""A recipe to try before the search: its labels in the space, as far as it has any, and the whole recipe."""

Values = Callable[[Sequence[str]], Mapping[str, float]]
"""Computes the values that Optuna maximises, by trial, from the names of the complete trials."""

_ATTEMPTS: Final = 10
"""How often labels are drawn until no trial has them; in a small space there may be none left."""

_SAMPLED: Final = 3
"""How many of these attempts are TPE's; the others are random. TPE would often draw the same labels ten times, and the
time that a draw takes grows with the number of trials."""

CANDIDATES: Final = 4
"""How many proposals of TPE the cheapest is chosen from, with `per_second`."""

HISTORY: Final = 500
"""How many ended trials TPE learns from at most, so that a proposal takes no longer than it does after that many."""

BEST: Final = 100
"""How many of these are the best ones; the others are the latest."""

BLOCK: Final = 100
"""Older trials are dropped when this many more have ended: to make a study anew takes several times as long as a
proposal."""

_STATES: dict[Status, TrialState] = {
    "COMPLETE": TrialState.COMPLETE,
    "PRUNED": TrialState.PRUNED,
    "WAITING": TrialState.PRUNED,  # only its first epochs are known
    "FAILED": TrialState.FAIL,
}


class _Drawn(NamedTuple):
    """A draw of a sampler; without a recipe, it has the reason why its fields cannot be combined."""

    trial: optuna.Trial
    params: dict[str, Label]
    recipe: Recipe | None
    error: str = ""


optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class OptunaSearcher(ray.tune.search.Searcher):  # type: ignore[misc]
    """Draws recipes from a space and learns from their results.

    TPE learns from the best and the latest trials where there are more than `HISTORY`: it models the best tenth, at
    most 25, and gives old trials little weight.

    The sampler gets a new seed for every proposal, made of (seed, number): a proposal depends on the ledger alone, so
    that a resumed search proposes what an uninterrupted one would have proposed. What was proposed before, here or in
    the earlier run of a warm start, is drawn again with another seed.

    Args:
        space: what may vary.
        ledger: every proposal is written to it before the trial runs. Optuna's study is rebuilt from it; trials that
            an earlier session left unfinished are proposed again first.
        configure: makes the Ray Tune configuration of a trial from its record.
        trials: how many trials to propose in all, those of earlier sessions included.
        search: `optuna` (TPE, Bergstra et al. 2011, multivariate, grouped for conditional fields) or `random`.
        seed: of the search.
        starts: recipes that run before the search, in this order, unless a start trial of the ledger has them.
        earlier: trials of an earlier run that the sampler learns from; not used with `values`, which are none of them.
        values: what Optuna maximises for complete trials, computed from their names, all together; those it leaves out
            are not in the study. None for the score.
        promoted: names of the waiting trials that continue in this session.
        per_second: of several proposals of TPE, run the one with the least predicted seconds (see `TrialCost`).
    """

    def __init__(
        self,
        space: Space,
        ledger: Ledger,
        configure: Callable[[Record], dict[str, Any]],
        *,
        trials: int,
        search: Search = "optuna",
        seed: int = 0,
        starts: Sequence[Start] = (),
        earlier: Sequence[Record] = (),
        values: Values | None = None,
        promoted: Collection[str] = (),
        per_second: bool = False,
    ) -> None:
        super().__init__(metric="score", mode="max")
        self.space, self.ledger, self.configure = space, ledger, configure
        self.trials, self.search, self.seed = trials, search, seed
        self.earlier, self.values, self.promoted = earlier, values, promoted
        begun = [record.recipe for record in ledger.records.values() if record.origin == "start"]
        self.starts = [start for start in starts if start[1].to_dict() not in begun]
        self.proposed = {_point(record.params) for record in (*earlier, *ledger.records.values())}
        self.unfinished = [record for record in ledger.records.values() if self._runs(record)]
        self.candidates = CANDIDATES if per_second and search == "optuna" else 1
        self.cost = TrialCost()
        for record in (*ledger.ended(), *ledger.with_status("WAITING")):
            self.cost.add(record)
        self._build_study()

    def suggest(self, trial_id: str) -> dict[str, Any] | str:
        """Configuration of the next trial: one that an earlier session left unfinished, else a new proposal."""
        record = self.unfinished.pop(0) if self.unfinished else self._propose()
        return str(self.FINISHED) if record is None else self.configure(record)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: `report_end` reports the result to Optuna, because the record says whether it was pruned."""

    def report_end(self, record: Record) -> None:
        """Report to Optuna how a trial, or its first stage, has ended."""
        self.cost.add(record)
        if self.values is not None and record.status == "COMPLETE" and record.name in self.running:
            self.outdated = True  # the values of all trials change
            return
        trial = self.running.pop(record.name, None)
        if trial is None:  # a confirmation: its recipe has a value already
            return
        state = _STATES[record.status]
        self.ended += 1
        # Reported only now, from the ledger, where the curve is complete whichever workers and sessions trained it.
        for report in record.curve:
            trial.report(report["score"], report["epoch"])
        self.study.tell(trial, record.score if state == TrialState.COMPLETE else None, state)

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the ledger holds the whole state."""

    def restore(self, checkpoint_path: str) -> None:
        """Does nothing: `__init__` restores the state from the ledger."""

    def _runs(self, record: Record) -> bool:
        promoted = record.status == "WAITING" and record.name in self.promoted
        return promoted or record.status in ("PENDING", "RUNNING")

    def _build_study(self) -> None:
        """Make Optuna's study from the ledger."""
        self.study = optuna.create_study(direction="maximize")
        self.running: dict[str, optuna.Trial] = {}
        self.outdated = False
        if self.values is None:
            for record in self.earlier:
                self.study.add_trial(self._ended_trial(record, record.score))
        records = [record for record in self.ledger.records.values() if record.origin != "confirm"]
        complete = [record for record in records if record.status == "COMPLETE"]
        known = {r.name: r.score for r in complete} if self.values is None else self.values([r.name for r in complete])
        values = dict(known)  # what Optuna is told of every ended trial
        for record in records:
            if not self._runs(record) and record.status != "COMPLETE":
                values[record.name] = None if record.status == "FAILED" else record.score
        self.ended, self.block = len(values), len(values) // BLOCK
        learned_from = _learned_from([r.name for r in records if r.name in values], known)
        for record in records:
            if self._runs(record):
                self._add_running(record)
            elif record.name in learned_from:
                self.study.add_trial(self._ended_trial(record, values[record.name]))

    def _propose(self) -> Record | None:
        if self.outdated or (self.search == "optuna" and self.ended > HISTORY and self.ended // BLOCK > self.block):
            self._build_study()
        while self.ledger.proposed < self.trials:
            if self.starts:
                params, recipe = self.starts.pop(0)
                record = self.ledger.propose(params, recipe, origin="start")
                self.proposed.add(_point(params))
                self._add_running(record)
                return record
            if proposal := self._propose_new():
                return proposal
        return None

    def _propose_new(self) -> Record | None:
        """Propose a trial that has not been proposed before; None if its fields do not go together."""
        number = self.ledger.next_number
        drawn = [self._draw(number, candidate) for candidate in range(self.candidates)]
        chosen = min((each for each in drawn if each.recipe), key=self._predicted_seconds, default=drawn[0])
        for other in drawn:
            if other is not chosen or other.recipe is None:
                # Fields may be valid one by one but not together. The sampler learns that from the failed trial.
                self.study.tell(other.trial, state=TrialState.FAIL)
        if chosen.recipe is None:
            self.ledger.propose(chosen.params, None, chosen.error)
            return None
        self.proposed.add(_point(chosen.params))
        record = self.ledger.propose(chosen.params, chosen.recipe)
        self.running[record.name] = chosen.trial
        return record

    def _draw(self, number: int, candidate: int) -> _Drawn:
        """Draw labels that have not been proposed before, as far as there are any after some attempts."""
        for attempt in range(_ATTEMPTS):
            self.study.sampler = self._sampler(number, attempt, candidate)
            trial = self.study.ask()
            try:
                drawn = _Drawn(trial, *self.space.draw(trial))
            except InputError as error:
                return _Drawn(trial, dict(trial.params), None, str(error))
            if _point(drawn.params) not in self.proposed or attempt + 1 == _ATTEMPTS:
                break
            self.study.tell(trial, state=TrialState.FAIL)
        return drawn

    def _predicted_seconds(self, drawn: _Drawn) -> float:
        if self.candidates == 1 or drawn.recipe is None:
            return 0.0
        return self.cost.predict(drawn.recipe.to_dict(), drawn.recipe.epochs)

    def _sampler(self, number: int, attempt: int, candidate: int) -> optuna.samplers.BaseSampler:
        draw = candidate * _ATTEMPTS + attempt
        seed = mix(self.seed, number, draw) if draw else mix(self.seed, number)
        if self.search == "random" or attempt >= _SAMPLED:
            return optuna.samplers.RandomSampler(seed)
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)

    def _add_running(self, record: Record) -> None:
        """Add a trial to the study whose labels are known."""
        self.study.sampler = optuna.samplers.RandomSampler(0)  # draws nothing, since all labels are enqueued
        self.study.enqueue_trial(record.params)
        self.running[record.name] = self.study.ask(self._distributions(record.params))

    def _ended_trial(self, record: Record, value: float | None) -> FrozenTrial:
        distributions = self._distributions(record.params)
        return optuna.trial.create_trial(
            state=_STATES[record.status],
            value=value,
            params={name: record.params[name] for name in distributions},
            distributions=distributions,
            intermediate_values={report["epoch"]: report["score"] for report in record.curve},
        )

    def _distributions(self, params: Collection[str]) -> dict[str, BaseDistribution]:
        """The distributions that some of the space's fields are drawn from."""
        recorder = _DistributionRecorder()
        for parameter in self.space.parameters:
            if parameter.field in params:
                parameter.draw(recorder)
        return recorder.distributions


def _learned_from(ended: Sequence[str], values: Mapping[str, float | None]) -> set[str]:
    """Names of the ended trials that TPE learns from, which follow from the ledger alone.

    Those that ended since the last whole block; of those before it the best and the latest, where there are more than
    `HISTORY` in all.
    """
    if len(ended) <= HISTORY:
        return set(ended)
    older = ended[: len(ended) // BLOCK * BLOCK]
    best = sorted((name for name in older if name in values), key=lambda name: -(values[name] or -math.inf))[:BEST]
    return {*best, *older[-(HISTORY - BEST - BLOCK) :], *ended[len(older) :]}


def _point(params: Mapping[str, Label]) -> str:
    return json.dumps(params, sort_keys=True)


class _DistributionRecorder:
    """Stands in for an Optuna trial to record the distributions that a space draws from."""

    def __init__(self) -> None:
        self.distributions: dict[str, BaseDistribution] = {}

    def suggest_categorical(self, name: str, choices: Sequence[Label]) -> Label:
        self.distributions[name] = CategoricalDistribution(choices)
        return choices[0]

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.distributions[name] = FloatDistribution(low, high, log=log)
        return low

    def suggest_int(self, name: str, low: int, high: int) -> int:
        self.distributions[name] = IntDistribution(low, high)
        return low
