from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pasture.run_folder import RunFolder
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record, Status
from tune.search.confirmation import confirmed_scores, is_over, propose_confirmations, unconfirmed
from tune.search.optuna_searcher import OptunaSearcher, Start

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
Report = Callable[..., dict[str, Any]]
Add = Callable[..., Record]


@pytest.fixture
def ledger(run: RunFolder) -> Ledger:
    return Ledger(run)


@pytest.fixture
def add(ledger: Ledger, space: Space, report: Report) -> Add:
    """`add(score, status="COMPLETE", dropout=...)`: a searched trial; each has its own dropout."""

    def add(score: float, status: Status = "COMPLETE") -> Record:
        recipe = space.base.with_overrides({"head.dropout": len(ledger.records) / 100})
        record = ledger.propose({"head.dropout": recipe.head.dropout}, recipe)
        record.status, record.curve = status, [report(1, score)]
        ledger.write(record)
        return record

    return add


def plan(trials: int, confirm: int) -> Any:
    return SimpleNamespace(trials=trials, confirm=confirm)


def test_the_best_trials_run_again_with_other_seeds_and_nothing_else(ledger: Ledger, add: Add) -> None:
    for score in (0.1, 0.5, 0.3, 0.4):
        add(score)
    add(0.9, "PRUNED")
    records = propose_confirmations(ledger, 2)
    assert [(r.name, r.origin, r.status) for r in records] == [
        ("t0005", "confirm", "PENDING"),
        ("t0006", "confirm", "PENDING"),
    ]
    for record, original in zip(records, (ledger.records["t0001"], ledger.records["t0003"]), strict=True):
        before, after = Recipe.parse(original.recipe), Recipe.parse(record.recipe)
        assert (after.seed, after.validation.seed) == (before.seed + 1000, before.validation.seed + 1000)
        assert after.with_overrides({"seed": before.seed, "validation.seed": before.validation.seed}) == before


def test_each_trial_is_confirmed_once_whatever_was_interrupted(ledger: Ledger, add: Add) -> None:
    for score in (0.1, 0.5, 0.3):
        add(score)
    assert not is_over(ledger, plan(3, 2))
    (first, second) = propose_confirmations(ledger, 2)
    first.status, second.status = "COMPLETE", "FAILED"
    first.curve = [{"epoch": 1, "score": 0.95}]  # the best of all, but a confirmation is not confirmed
    for record in (first, second):
        ledger.write(record)
    again = Ledger(ledger.run)
    assert propose_confirmations(again, 2) == []
    assert is_over(again, plan(3, 2))
    assert not is_over(again, plan(4, 2))
    assert [r.name for r in unconfirmed(again, 3)] == ["t0000"]
    ledger.run.trials.delete(f"{second.name}.json")
    assert propose_confirmations(Ledger(ledger.run), 2)[0].recipe == second.recipe


def test_without_confirm_a_sweep_is_over_with_its_trials(ledger: Ledger, add: Add) -> None:
    add(0.5)
    assert is_over(ledger, plan(1, 0))
    assert not is_over(ledger, plan(2, 0))
    add(0.5, "WAITING")
    assert not is_over(ledger, plan(2, 0))


def test_confirmations_are_not_counted_among_the_trials(ledger: Ledger, add: Add) -> None:
    add(0.5)
    propose_confirmations(ledger, 1)
    assert (len(ledger.records), ledger.proposed) == (2, 1)
    assert ledger.left(3) == 3  # the confirmation, and two proposals


def test_both_scores_are_shown(ledger: Ledger, add: Add, report: Report) -> None:
    add(0.5), add(0.6)
    for record, score in zip(propose_confirmations(ledger, 2), (0.55, 0.45), strict=True):
        record.status, record.curve = "COMPLETE", [report(1, score)]
    assert confirmed_scores(ledger) == [
        "t0001 scores 0.6000, and 0.5500 with another seed and folds (t0002)",
        "t0000 scores 0.5000, and 0.4500 with another seed and folds (t0003)",
    ]


@pytest.mark.parametrize("values", [None, lambda names: dict.fromkeys(names, 0.1)])
def test_optuna_does_not_learn_from_confirmations(
    run: RunFolder, ledger: Ledger, add: Add, report: Report, make_searcher: Callable[..., OptunaSearcher], values: Any
) -> None:
    add(0.5)
    (record,) = propose_confirmations(ledger, 1)
    searcher = make_searcher(run, trials=2, values=values)
    config = searcher.suggest("id")
    assert isinstance(config, dict)
    assert (config["trial"], config["origin"]) == (record.name, "confirm")
    again = searcher.ledger.records[record.name]
    again.status, again.curve = "COMPLETE", [report(1, 0.9)]
    searcher.ledger.write(again)
    searcher.report_end(again)
    assert len(searcher.study.trials) == len(make_searcher(run, trials=2, values=values).study.trials) == 1
    assert isinstance(searcher.suggest("id"), dict)  # the second trial of the search
    assert searcher.suggest("id") == "FINISHED"


def test_a_confirmation_takes_the_place_of_no_start_recipe(
    run: RunFolder, make_searcher: Callable[..., OptunaSearcher], report: Report, starts: list[Start]
) -> None:
    searcher = make_searcher(run, trials=1, starts=starts)
    searcher.suggest("id")
    (first,) = searcher.ledger.records.values()
    first.status, first.curve = "COMPLETE", [report(1, 0.5)]
    searcher.ledger.write(first)
    propose_confirmations(searcher.ledger, 1)
    longer = make_searcher(run, trials=4, starts=starts)
    while longer.suggest("id") != "FINISHED":
        pass
    begun = [record.recipe for record in longer.ledger.records.values() if record.origin == "start"]
    assert begun == [recipe.to_dict() for _, recipe in starts]
