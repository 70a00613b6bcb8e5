"""A run as a study of Optuna: for importances, and for tools that read Optuna's storages."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from search_spaces.parameter import Parameter
from tune.records.ledger import Record, Status

STATES: Final[dict[Status, TrialState]] = {
    "COMPLETE": TrialState.COMPLETE,
    "PRUNED": TrialState.PRUNED,
    "WAITING": TrialState.PRUNED,
    "FAILED": TrialState.FAIL,
    "RUNNING": TrialState.RUNNING,
    "PENDING": TrialState.WAITING,
}
FEWEST: Final = 6
"""Complete trials that an importance is computed from at least."""


def frozen_trial(record: Record, parameters: Sequence[Parameter]) -> FrozenTrial:
    """A record as a trial of Optuna, with its state, its fields and the score after each epoch.

    Fields whose value is not in the space, as those of a run whose sweep.yaml is of another space, are left out.
    """
    own = [p for p in parameters if p.kind != "constant" and p.field in record.params and _holds(p, record)]
    distributions = {p.field: _distribution(p) for p in own}
    state = STATES[record.status]
    return optuna.trial.create_trial(
        state=state,
        value=record.score if state == TrialState.COMPLETE else None,
        params={name: record.params[name] for name in distributions},
        distributions=distributions,
        intermediate_values={int(e["epoch"]): float(e["score"]) for e in record.curve},
        user_attrs={"trial": record.name, "origin": record.origin, **({"error": record.error} if record.error else {})},
    )


def importances(records: Sequence[Record], parameters: Sequence[Parameter]) -> dict[str, dict[str, float]]:
    """Importance of the fields that all complete trials have: evaluator to field to share; empty for few trials."""
    complete = [r for r in records if r.status == "COMPLETE" and r.score is not None]
    shared = [p for p in parameters if all(p.field in r.params and _holds(p, r) for r in complete)]
    varied = [p for p in shared if len({str(r.params[p.field]) for r in complete}) > 1]
    if len(complete) < FEWEST or not varied or len({r.score for r in complete}) == 1:
        return {}
    quiet()
    study = optuna.create_study(direction="maximize")
    study.add_trials([frozen_trial(r, varied) for r in complete])
    names = [p.field for p in varied]
    evaluators: Mapping[str, Any] = {
        "fANOVA": FanovaImportanceEvaluator(seed=0),
        "PED-ANOVA": PedAnovaImportanceEvaluator(),
    }
    return {
        name: get_param_importances(study, evaluator=evaluator, params=names) for name, evaluator in evaluators.items()
    }


def quiet() -> None:
    """No messages from Optuna: the pages and commands print their own."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.kind == "choice":
        return CategoricalDistribution(list(parameter.options))
    if parameter.kind == "integer":
        return IntDistribution(parameter.low, parameter.high)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.kind == "log_uniform")


def _holds(parameter: Parameter, record: Record) -> bool:
    value = record.params[parameter.field]
    return value in parameter.options if parameter.kind == "choice" else bool(parameter.low <= value <= parameter.high)
