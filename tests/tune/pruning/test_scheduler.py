from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pasture.oof import Origin
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune.cluster.ray_trial import result_of
from tune.pruning.pruners import make_pruner
from tune.pruning.scheduler import PruningScheduler
from tune.records.ledger import Ledger

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
Result = Callable[[int, float], dict[str, Any]]


@pytest.fixture
def result(report: Callable[..., Any]) -> Result:
    """`result(epoch, score)`: what a trial sends after an epoch."""
    return lambda epoch, score: result_of(report(epoch, score), finished=False)


@pytest.fixture
def trial(run: RunFolder, ledger: Ledger) -> Callable[..., Any]:
    """`trial(origin="search")`: a new trial, as Ray shows it to a scheduler."""

    def make(origin: Origin = "search") -> Any:
        return SimpleNamespace(config={"trial": ledger.propose({}, Recipe(), origin=origin).name})

    return make


@pytest.fixture
def ledger(run: RunFolder) -> Ledger:
    return Ledger(run)


def test_a_trial_waits_at_the_cut_whatever_its_score(ledger: Ledger, trial: Callable[..., Any], result: Result) -> None:
    scheduler = PruningScheduler(ledger, make_pruner("asha", 9, promote=1), cut=3)
    a, b, c, d = (trial() for _ in range(4))
    for one, score in ((a, 0.5), (b, 0.1)):
        assert scheduler.on_trial_result(None, one, result(3, score)) == scheduler.STOP
        assert scheduler.outcome(one.config["trial"], result(3, score)) == "WAITING"
    assert scheduler.outcome("t0000", {**result(3, 0.5), "finished": True}) == "COMPLETE"
    assert scheduler.outcome("t0000", {"error": "nan"}) == "FAILED"
    assert scheduler.on_trial_result(None, c, result(1, 0.5)) == scheduler.CONTINUE
    assert scheduler.on_trial_result(None, d, result(1, 0.4)) == scheduler.STOP
    assert scheduler.outcome("t0003", result(1, 0.4)) == "PRUNED"
    assert scheduler.on_trial_result(None, a, result(4, 0.5)) == scheduler.CONTINUE


def test_a_start_trial_does_not_wait_at_the_cut(ledger: Ledger, trial: Callable[..., Any], result: Result) -> None:
    scheduler = PruningScheduler(ledger, make_pruner("asha", 9, promote=1), cut=3)
    assert scheduler.on_trial_result(None, trial("start"), result(3, 0.5)) == scheduler.CONTINUE


def test_outcomes(ledger: Ledger, trial: Callable[..., Any], result: Result) -> None:
    scheduler = PruningScheduler(ledger, make_pruner("asha", 9))
    assert scheduler.on_trial_result(None, trial(), result(1, 0.5)) == scheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial(), result(1, 0.1)) == scheduler.STOP
    assert scheduler.on_trial_result(None, trial(), {"error": "nan"}) == scheduler.CONTINUE
    assert scheduler.outcome("t0000", {"finished": True}) == "COMPLETE"
    assert scheduler.outcome("t0001", {"finished": False}) == "PRUNED"
    assert scheduler.outcome("t0002", {"error": "nan"}) == "FAILED"
    assert scheduler.outcome("t0003", {}) == "FAILED"


def test_a_short_trial_that_ends_at_a_rung_counts_there_before_and_after_a_restart(
    ledger: Ledger, trial: Callable[..., Any], report: Callable[..., Any], result: Result
) -> None:
    pruner, rebuilt = make_pruner("asha", 9), make_pruner("asha", 9)
    scheduler = PruningScheduler(ledger, pruner)
    short, failed = trial(), trial()
    for epoch in (1, 2, 3):
        ledger.records["t0000"].report(report(epoch, 0.1 * epoch))
    for epoch in (1, 2):
        scheduler.on_trial_result(None, short, result(epoch, 0.1 * epoch))
    scheduler.on_trial_complete(None, short, result(3, 0.1 * 3))
    scheduler.on_trial_complete(None, failed, {"error": "nan"})
    PruningScheduler(ledger, rebuilt)
    assert vars(rebuilt) == vars(pruner)
    assert vars(pruner)["entries"][3].keys() == {"t0000"}


def test_a_free_worker_takes_one_of_the_trials_without_a_worker(ledger: Ledger) -> None:
    scheduler = PruningScheduler(
        ledger, make_pruner("asha", 9), choose=lambda pending: pending[-1] if pending else None
    )
    trials = [SimpleNamespace(status=status) for status in ("TERMINATED", "PENDING", "PENDING", "RUNNING")]
    controller = SimpleNamespace(get_trials=lambda: trials)
    assert scheduler.choose_trial_to_run(controller) is trials[2]
