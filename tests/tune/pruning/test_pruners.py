"""What every pruner must do, and where rungs lie."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pasture.errors import InputError
from pasture.run_folder import RunFolder
from tune.pruning import scheduler
from tune.pruning.pruners import Pruner, make_pruner, rung_epochs
from tune.pruning.scheduler import PruningScheduler
from tune.records.ledger import Ledger, Record
from tune.search.optuna_searcher import Start

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
PRUNERS: Any = ("asha", "paired", "none")
EVERY = pytest.mark.parametrize("name", PRUNERS)
PRUNING = pytest.mark.parametrize("name", ["asha", "paired"])
Report = Callable[..., dict[str, Any]]
Drive = Callable[..., Ledger]


def state(pruner: Pruner) -> str:
    return repr({key: sorted(map(repr, value.items())) for key, value in vars(pruner).get("entries", {}).items()})


@EVERY
def test_the_first_trial_at_a_rung_continues_however_bad_it_is(name: Any, report: Report) -> None:
    pruner = make_pruner(name, 9)
    assert pruner.judge("a", report(1, -50.0))
    assert pruner.judge("a", report(3, -50.0))


@PRUNING
def test_a_trial_that_is_far_behind_is_pruned(name: Any, report: Report) -> None:
    pruner = make_pruner(name, 9)
    assert all(pruner.judge(trial, report(1, 0.6)) for trial in "abc")
    assert not pruner.judge("d", report(1, -5.0))


@EVERY
def test_a_trial_is_judged_once_at_a_rung_and_nowhere_else(name: Any, report: Report) -> None:
    pruner = make_pruner(name, 9)
    for trial in "abc":
        pruner.judge(trial, report(1, 0.6))
    pruner.judge("d", report(1, -5.0))
    before = state(pruner)
    assert pruner.judge("d", report(1, -9.0))  # a lost worker repeats its last epoch
    for epoch in set(range(1, 9)) - set(pruner.rungs):
        assert pruner.judge("e", report(epoch, -5.0))
    assert state(pruner) == before


@EVERY
def test_a_start_trial_is_never_pruned_but_others_are_compared_with_it(name: Any, report: Report) -> None:
    pruner = make_pruner(name, 9)
    for trial in "abc":
        pruner.judge(trial, report(1, 0.6), False)
    assert pruner.judge("d", report(1, -5.0), False)
    assert pruner.judge("e", report(1, float("nan")), False)
    assert pruner.judge("f", report(1, -5.0)) == (name == "none")


@EVERY
def test_a_score_that_is_not_finite_harms_no_other_trial(name: Any, report: Report) -> None:
    pruner = make_pruner(name, 9)
    for trial, score in (("a", float("nan")), ("b", float("inf")), ("c", -float("inf"))):
        assert pruner.judge(trial, report(1, score)) == (name == "none")
    assert pruner.judge("d", report(1, 0.5))
    assert pruner.judge("e", report(1, 0.5))
    assert pruner.judge("f", report(1, -5.0)) == (name == "none")


@EVERY
def test_decisions_do_not_depend_on_the_order_of_earlier_reports(name: Any, report: Report) -> None:
    scores = {"a": 0.5, "b": 0.45, "c": 0.48, "d": 0.2}
    decisions = set()
    for order in itertools.permutations(scores):
        pruner = make_pruner(name, 9)
        for trial in order:
            pruner.judge(trial, report(1, scores[trial]))
        decisions.add(tuple(pruner.judge(f"x{score}", report(1, score)) for score in np.linspace(0, 0.6, 25)))
    assert len(decisions) == 1


@PRUNING
def test_no_fewer_searched_trials_continue_than_are_promoted(name: Any, report: Report) -> None:
    pruner = make_pruner(name, 9, promote=3)
    assert pruner.rungs == (1,)
    assert all(pruner.judge(f"start{i}", report(1, 0.99), False) for i in range(5))
    passed = [pruner.judge(f"t{i}", report(1, score)) for i, score in enumerate((0.5, 0.1, -1, -5, 0.4, -5, -5))]
    assert passed == [True, True, True, False, True, False, False]


@EVERY
@pytest.mark.parametrize("search", ["optuna", "random"])
def test_rebuilt_from_the_ledger_it_equals_the_original(
    name: Any, search: str, run: RunFolder, drive: Drive, starts: list[Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Pruner] = []
    init = PruningScheduler.__init__

    def remember(self: PruningScheduler, ledger: Ledger, pruner: Pruner, cut: int | None = None) -> None:
        made.append(pruner)
        init(self, ledger, pruner, cut)

    monkeypatch.setattr(scheduler.PruningScheduler, "__init__", remember)
    ledger = drive(run, trials=20, search=search, pruner=name, starts=starts)
    monkeypatch.undo()
    rebuilt = make_pruner(name, 9)
    PruningScheduler(Ledger(run), rebuilt)
    assert state(rebuilt) == state(made[0])
    assert bool(ledger.with_status("PRUNED")) == (name != "none")


@pytest.mark.heavy
@EVERY
def test_a_search_killed_anywhere_ends_as_an_uninterrupted_one(
    name: Any,
    run: RunFolder,
    drive: Drive,
    starts: list[Start],
    facts: Callable[[Ledger], list[Record]],
    killed: type[BaseException],
) -> None:
    undisturbed = facts(drive(RunFolder(f"{run}-0"), 12, pruner=name, starts=starts))
    assert [(r.origin, r.status) for r in undisturbed[:3]] == [("start", "COMPLETE")] * 3
    assert {r.origin for r in undisturbed[3:]} == {"search"}
    for kill_after in (1, 8, 9, 20, 33, 34, 40, 45):
        disturbed = RunFolder(f"{run}-{kill_after}")
        with pytest.raises(killed):
            drive(disturbed, 12, pruner=name, starts=starts, kill_after=kill_after)
        assert facts(drive(disturbed, 12, pruner=name, starts=starts)) == undisturbed, kill_after


@pytest.mark.parametrize(
    ("epochs", "rungs"),
    [(1, []), (2, [1]), (3, [1]), (4, [1, 2]), (6, [1, 2]), (9, [1, 3]), (10, [2, 4]), (30, [4, 10]), (81, [9, 27])],
)
def test_rungs_lie_at_a_ninth_and_a_third(epochs: int, rungs: list[int]) -> None:
    assert list(rung_epochs(epochs)) == rungs


@pytest.mark.parametrize(
    ("grace", "reduction", "rungs"),
    [(None, 2, (8, 15)), (None, 4, (2, 8)), (10, 3, (10,)), (10, 2, (10, 20)), (1, 3, (1, 3, 9, 27)), (29, 3, (29,))],
)
def test_rungs_of_a_trial_of_30_epochs(grace: int | None, reduction: int, rungs: tuple[int, ...]) -> None:
    assert rung_epochs(30, grace, reduction) == rungs
    assert make_pruner("paired", 30, grace=grace, reduction=reduction).rungs == rungs


@pytest.mark.parametrize("name", ["asha", "paired"])
def test_a_grace_that_leaves_no_rung_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match="--grace 30: expected fewer than the 30 epochs of a trial"):
        make_pruner(name, 30, grace=30)
    assert make_pruner("none", 30, grace=30).rungs == ()
