from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from pasture.run_folder import RunFolder
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record, Status
from tune.search.proposer import Proposer

SEARCHES = pytest.mark.parametrize("search", ["optuna", "random"])
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
Report = Callable[..., dict[str, Any]]
Make = Callable[..., Proposer]


def next_record(proposer: Proposer) -> Record:
    config = proposer.suggest("id")
    assert isinstance(config, dict)
    return proposer.ledger.records[config["trial"]]


def end(proposer: Proposer, record: Record, status: Status, curve: list[dict[str, Any]]) -> None:
    for epoch in curve:
        record.report(epoch)
        proposer.on_trial_result("id", epoch)
    record.status = status
    proposer.ledger.write(record)
    proposer.on_trial_complete("id", {}, error=status == "FAILED")
    proposer.tell(record)


def study_facts(proposer: Proposer) -> list[tuple[Any, ...]]:
    return [(t.state, t.values, t.params, t.distributions, t.intermediate_values) for t in proposer.study.trials]


def test_a_proposal(run: RunFolder, make_proposer: Make) -> None:
    proposer = make_proposer(run, trials=3)
    config = proposer.suggest("id")
    assert isinstance(config, dict)
    assert (config["run"], config["reported"]) == (str(run), 0)
    record = Ledger(run).records[config["trial"]]
    assert (record.status, record.recipe) == ("PENDING", json.loads(config["recipe"]))
    recipe = Recipe.parse(json.loads(config["recipe"]))
    assert recipe.head.dropout == record.params["head.dropout"]
    assert recipe.backbone.name == "resnet18"


def test_outcomes_are_told_as_what_they_are(run: RunFolder, make_proposer: Make, report: Report) -> None:
    proposer = make_proposer(run, "random")
    for status, curve in [
        ("COMPLETE", [report(1, 0.1), report(2, 0.3), report(3, 0.3, 2)]),
        ("PRUNED", [report(1, 0.2)]),
        ("PRUNED", [report(1, 0.2), report(2, 0.25), report(3, 0.1)]),
        ("FAILED", [report(1, 0.1)]),
        ("FAILED", []),
    ]:
        end(proposer, next_record(proposer), status, curve)  # type: ignore[arg-type]
    next_record(proposer)
    told = [t for t in proposer.study.trials if t.params or t.state != TrialState.FAIL]
    assert [t.state for t in told if t.state != TrialState.FAIL] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.PRUNED,
        TrialState.RUNNING,
    ]
    by_number = {r.number: t for r, t in zip(proposer.ledger.records.values(), proposer.study.trials, strict=True)}
    ran = [by_number[r.number] for r in proposer.ledger.records.values() if r.recipe]
    assert [t.state for t in ran[3:5]] == [TrialState.FAIL, TrialState.FAIL]
    assert ran[0].value == 0.3
    assert ran[0].intermediate_values == {1: 0.1, 2: 0.3, 3: 0.3}
    assert ran[1].intermediate_values == {1: 0.2}
    assert ran[2].intermediate_values == {1: 0.2, 2: 0.25, 3: 0.1}
    assert ran[3].intermediate_values == {1: 0.1}
    assert ran[3].values is None


def test_a_trial_that_waits_is_told_without_a_score_and_again_when_it_has_gone_on(
    run: RunFolder, make_proposer: Make, report: Report
) -> None:
    proposer = make_proposer(run, "random")
    record = next_record(proposer)
    end(proposer, record, "WAITING", [report(1, 0.1), report(2, 0.3)])
    next_record(proposer)
    told = proposer.study.trials[record.number]
    assert (told.state, told.intermediate_values) == (TrialState.PRUNED, {1: 0.1, 2: 0.3})
    assert study_facts(make_proposer(run, "random"))[record.number] == study_facts(proposer)[record.number]

    again = make_proposer(run, "random", promoted=[record.name])
    config = again.suggest("id")
    assert isinstance(config, dict)
    assert (config["trial"], config["reported"]) == (record.name, 2)
    end(again, again.ledger.records[record.name], "COMPLETE", [report(3, 0.4)])
    told = again.study.trials[record.number]
    assert (told.state, told.value, len(told.intermediate_values)) == (TrialState.COMPLETE, 0.4, 3)


def test_no_warning_where_a_worker_died_and_epochs_are_told_again(
    run: RunFolder, make_proposer: Make, report: Report, recwarn: pytest.WarningsRecorder
) -> None:
    proposer = make_proposer(run)
    record = next_record(proposer)
    end(proposer, record, "COMPLETE", [report(e, 0.1 * e) for e in (1, 2, 3, 1, 2, 3, 4)])
    assert proposer.study.trials[-1].intermediate_values == {e: 0.1 * e for e in (1, 2, 3, 4)}
    assert not [w for w in recwarn if "already reported" in str(w.message)]


@SEARCHES
def test_the_study_rebuilt_from_the_ledger_equals_the_original(
    search: str, run: RunFolder, make_proposer: Make, report: Report
) -> None:
    proposer = make_proposer(run, search)
    for i in range(14):
        record = next_record(proposer)
        curve = [report(e, 0.01 * (i * 7 % 10) + 0.1 * e) for e in range(1, 2 + i % 3)]
        end(proposer, record, ("COMPLETE", "PRUNED", "FAILED")[i % 3], curve)  # type: ignore[arg-type]
    next_record(proposer)
    impossible = sum(not r.recipe for r in proposer.ledger.records.values())
    assert impossible > 0
    again = make_proposer(run, search)
    mine, theirs = study_facts(proposer), study_facts(again)
    for a, b, record in zip(mine, theirs, proposer.ledger.records.values(), strict=True):
        if record.recipe:
            assert a == b
        else:
            assert a[0] == b[0] == TrialState.FAIL  # Optuna does not learn from the parameters of a failed trial


@SEARCHES
def test_an_extended_search_equals_one_that_was_long_from_the_start(
    search: str, run: RunFolder, drive: Callable[..., Ledger], facts: Callable[[Ledger], list[Record]]
) -> None:
    assert len(drive(run, 7, search).records) == 7
    assert facts(drive(run, 15, search)) == facts(drive(RunFolder(f"{run}-long"), 15, search))


@SEARCHES
@pytest.mark.parametrize("trials", [18])
def test_a_search_killed_anywhere_proposes_what_an_undisturbed_one_does(
    search: str,
    trials: int,
    run: RunFolder,
    drive: Callable[..., Ledger],
    facts: Callable[[Ledger], list[Record]],
    killed: type[BaseException],
) -> None:
    undisturbed = facts(drive(RunFolder(f"{run}-0"), trials, search))
    assert {r.status for r in undisturbed} == {"COMPLETE", "PRUNED", "FAILED"}
    assert len(undisturbed) == trials
    ends = 0
    for kill_after in range(1, 200, 11 if search == "optuna" else 7):
        disturbed = RunFolder(f"{run}-{kill_after}")
        try:
            drive(disturbed, trials, search, kill_after=kill_after)
            break
        except killed:
            ends += 1
        assert facts(drive(disturbed, trials, search)) == undisturbed, kill_after
    assert ends > 4


def test_killed_again_and_again(
    run: RunFolder, drive: Callable[..., Ledger], facts: Callable[[Ledger], list[Record]], killed: type[BaseException]
) -> None:
    undisturbed = facts(drive(RunFolder(f"{run}-0"), 14))
    for _ in range(100):
        try:
            ledger = drive(run, 14, kill_after=12)
            break
        except killed:
            continue
    assert facts(ledger) == undisturbed


def test_seeds_matter(run: RunFolder, drive: Callable[..., Ledger]) -> None:
    one, two = (drive(RunFolder(f"{run}-{seed}"), 3, seed=seed) for seed in (1, 2))
    assert one.records["t0000"].params != two.records["t0000"].params


@SEARCHES
def test_unfinished_trials_come_first_with_the_same_recipe(
    search: str, run: RunFolder, make_proposer: Make, report: Report
) -> None:
    proposer = make_proposer(run, search)
    first, second, third = (next_record(proposer) for _ in range(3))
    end(proposer, second, "COMPLETE", [report(1, 0.2)])
    third.report(report(1, 0.1))
    third.report(report(2, 0.1))
    proposer.ledger.write(third)

    again = make_proposer(run, search)
    configs = [again.suggest("id") for _ in range(3)]
    assert all(isinstance(c, dict) for c in configs)
    told = [(c["trial"], json.loads(c["recipe"]), c["reported"]) for c in configs]  # type: ignore[index]
    assert told[:2] == [(first.name, first.recipe, 0), (third.name, third.recipe, 2)]
    assert told[2][0] not in (first.name, second.name, third.name)
    for trial, record in zip(again.study.trials, again.ledger.records.values(), strict=True):
        if record.recipe:
            assert trial.params == record.params
    end(again, again.ledger.records[third.name], "PRUNED", [report(3, 0.05)])
    index = list(again.ledger.records).index(third.name)
    assert again.study.trials[index].intermediate_values == {1: 0.1, 2: 0.1, 3: 0.05}
    assert again.study.trials[index].state == TrialState.PRUNED


def test_an_impossible_combination_is_recorded_and_skipped(run: RunFolder, make_proposer: Make) -> None:
    proposer = make_proposer(run, "random", trials=30)
    ran = []
    while isinstance(config := proposer.suggest("id"), dict):
        ran.append(config["trial"])
    failed = proposer.ledger.with_status("FAILED")
    assert len(ran) + len(failed) == 30  # they count: a search has an end whatever its space
    assert failed
    for record in failed:
        assert record.params["loss.lds.size"] % 2 == 0
        assert "is even" in record.error
        assert record.recipe == {}
    assert all(Recipe.parse(proposer.ledger.records[name].recipe) for name in ran)
    assert len(Ledger(run).records) == 30
    assert make_proposer(run, "random", trials=30).unfinished == proposer.ledger.with_status("PENDING")


def test_a_space_of_impossible_combinations_only_comes_to_an_end(run: RunFolder, make_proposer: Make) -> None:
    class Even(Space):
        def draw(self, trial: Any) -> Any:
            trial.suggest_int("loss.lds.size", 2, 2)
            return {}, self.base.with_overrides({"loss.lds.size": 2})

    proposer = make_proposer(run, trials=4, space=Even(Recipe(), (), {}))
    assert proposer.suggest("id") == "FINISHED"
    assert [r.status for r in proposer.ledger.records.values()] == ["FAILED"] * 4


def test_optuna_learns_and_random_does_not(run: RunFolder, drive: Callable[..., Ledger]) -> None:
    def late_mean(search: str) -> float:
        scores = []
        for seed in range(3):
            ledger = drive(RunFolder(f"{run}-{search}-{seed}"), 30, search, seed)
            late = [r for r in ledger.records.values() if r.recipe and r.number >= 15]
            scores += [abs(r.params["head.dropout"]) for r in late]
        return sum(scores) / len(scores)

    assert late_mean("optuna") < late_mean("random") - 0.03


def test_samplers_are_those_promised(run: RunFolder, make_proposer: Make) -> None:
    assert isinstance(make_proposer(run, "random").study.sampler, optuna.samplers.RandomSampler)
    sampler = make_proposer(run, "optuna").study.sampler
    assert isinstance(sampler, optuna.samplers.TPESampler)
    assert sampler._multivariate
    assert sampler._group
