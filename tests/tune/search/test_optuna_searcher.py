from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from pasture.run_folder import RunFolder
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger, Record, Status
from tune.search.optuna_searcher import OptunaSearcher, Start

SEARCHES = pytest.mark.parametrize("search", ["optuna", "random"])
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
Report = Callable[..., dict[str, Any]]
Make = Callable[..., OptunaSearcher]


def next_record(searcher: OptunaSearcher) -> Record:
    config = searcher.suggest("id")
    assert isinstance(config, dict)
    return searcher.ledger.records[config["trial"]]


def end(searcher: OptunaSearcher, record: Record, status: Status, curve: list[dict[str, Any]]) -> None:
    for epoch in curve:
        record.report(epoch)
        searcher.on_trial_result("id", epoch)
    record.status = status
    searcher.ledger.write(record)
    searcher.on_trial_complete("id", {}, error=status == "FAILED")
    searcher.report_end(record)


def study_facts(searcher: OptunaSearcher) -> list[tuple[Any, ...]]:
    return [(t.state, t.values, t.params, t.distributions, t.intermediate_values) for t in searcher.study.trials]


def test_a_proposal(run: RunFolder, make_searcher: Make) -> None:
    searcher = make_searcher(run, trials=3)
    config = searcher.suggest("id")
    assert isinstance(config, dict)
    assert config.keys() >= {"run", "trial", "recipe", "reported", "resources", "gpus_per_fold", "origin"}
    assert (config["run"], config["reported"]) == (str(run), 0)
    record = Ledger(run).records[config["trial"]]
    assert (record.status, record.recipe) == ("PENDING", json.loads(config["recipe"]))
    recipe = Recipe.parse(json.loads(config["recipe"]))
    assert recipe.head.dropout == record.params["head.dropout"]
    assert recipe.backbone.name == "resnet18"


def test_results_are_reported_to_optuna_as_what_they_are(run: RunFolder, make_searcher: Make, report: Report) -> None:
    searcher = make_searcher(run, "random")
    for status, curve in [
        ("COMPLETE", [report(1, 0.1), report(2, 0.3), report(3, 0.3, 2)]),
        ("PRUNED", [report(1, 0.2)]),
        ("PRUNED", [report(1, 0.2), report(2, 0.25), report(3, 0.1)]),
        ("FAILED", [report(1, 0.1)]),
        ("FAILED", []),
    ]:
        end(searcher, next_record(searcher), status, curve)  # type: ignore[arg-type]
    next_record(searcher)
    trials = searcher.study.trials
    assert [t.state for t in trials if t.state != TrialState.FAIL] == [
        TrialState.COMPLETE,
        TrialState.PRUNED,
        TrialState.PRUNED,
        TrialState.RUNNING,
    ]
    by_number = {r.number: t for r, t in zip(searcher.ledger.records.values(), searcher.study.trials, strict=True)}
    ran = [by_number[r.number] for r in searcher.ledger.records.values() if r.recipe]
    assert [t.state for t in ran[3:5]] == [TrialState.FAIL, TrialState.FAIL]
    assert ran[0].value == 0.3
    assert ran[0].intermediate_values == {1: 0.1, 2: 0.3, 3: 0.3}
    assert ran[1].intermediate_values == {1: 0.2}
    assert ran[2].intermediate_values == {1: 0.2, 2: 0.25, 3: 0.1}
    assert ran[3].intermediate_values == {1: 0.1}
    assert ran[3].values is None


def test_a_waiting_trial_is_reported_without_a_score_and_again_when_it_has_continued(
    run: RunFolder, make_searcher: Make, report: Report
) -> None:
    searcher = make_searcher(run, "random")
    record = next_record(searcher)
    end(searcher, record, "WAITING", [report(1, 0.1), report(2, 0.3)])
    next_record(searcher)
    reported = searcher.study.trials[record.number]
    assert (reported.state, reported.intermediate_values) == (TrialState.PRUNED, {1: 0.1, 2: 0.3})
    assert study_facts(make_searcher(run, "random"))[record.number] == study_facts(searcher)[record.number]

    again = make_searcher(run, "random", promoted=[record.name])
    config = again.suggest("id")
    assert isinstance(config, dict)
    assert (config["trial"], config["reported"]) == (record.name, 2)
    end(again, again.ledger.records[record.name], "COMPLETE", [report(3, 0.4)])
    reported = again.study.trials[record.number]
    assert (reported.state, reported.value, len(reported.intermediate_values)) == (TrialState.COMPLETE, 0.4, 3)


def test_no_warning_where_a_worker_died_and_epochs_are_reported_again(
    run: RunFolder, make_searcher: Make, report: Report, recwarn: pytest.WarningsRecorder
) -> None:
    searcher = make_searcher(run)
    record = next_record(searcher)
    end(searcher, record, "COMPLETE", [report(e, 0.1 * e) for e in (1, 2, 3, 1, 2, 3, 4)])
    assert searcher.study.trials[-1].intermediate_values == {e: 0.1 * e for e in (1, 2, 3, 4)}
    assert not [w for w in recwarn if "already reported" in str(w.message)]


@SEARCHES
def test_the_study_rebuilt_from_the_ledger_equals_the_original(
    search: str, run: RunFolder, make_searcher: Make, report: Report
) -> None:
    searcher = make_searcher(run, search)
    for i in range(14):
        record = next_record(searcher)
        curve = [report(e, 0.01 * (i * 7 % 10) + 0.1 * e) for e in range(1, 2 + i % 3)]
        end(searcher, record, ("COMPLETE", "PRUNED", "FAILED")[i % 3], curve)
    next_record(searcher)
    impossible = sum(not r.recipe for r in searcher.ledger.records.values())
    assert impossible > 0
    again = make_searcher(run, search)
    mine, theirs = study_facts(searcher), study_facts(again)
    assert mine == theirs


def test_tpe_learns_from_the_best_and_the_latest_trials_of_a_long_search(
    run: RunFolder, make_searcher: Make, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.search.optuna_searcher.HISTORY", 8)
    monkeypatch.setattr("tune.search.optuna_searcher.BEST", 3)
    monkeypatch.setattr("tune.search.optuna_searcher.BLOCK", 2)
    searcher = make_searcher(run, trials=100)
    proposed = []
    for i in range(31):
        proposed.append(record := next_record(searcher))
        status: Status = "PRUNED" if i % 3 == 2 else "COMPLETE"
        end(searcher, record, status, [report(1, 0.01 * ((7 * i) % 31))])
    last = next_record(searcher)
    learned = [trial for trial in searcher.study.trials if trial.state not in (TrialState.RUNNING, TrialState.FAIL)]
    scores = {r.name: r.score or 0.0 for r in proposed if r.status == "COMPLETE"}
    best = sorted(scores.values())[-3:]
    assert [trial.params for trial in learned[-4:]] == [
        {name: record.params[name] for name in trial.params}
        for trial, record in zip(learned[-4:], proposed[-4:], strict=True)
    ]
    assert set(best) <= {trial.value for trial in learned}
    assert len(learned) <= 8
    searcher.ledger.records.pop(last.name)
    run.trials.delete(f"{last.name}.json")
    assert next_record(make_searcher(run, trials=100)).params == last.params


def test_labels_that_tpe_draws_again_and_again_are_replaced_by_random_ones(
    run: RunFolder, make_searcher: Make, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    searcher = make_searcher(run, trials=200)
    sampler = searcher._sampler
    monkeypatch.setattr(searcher, "_sampler", lambda *key: used.append(type(s := sampler(*key)).__name__) or s)
    monkeypatch.setattr("tune.search.optuna_searcher._point", lambda _: "always the same")
    next_record(searcher)
    next_record(searcher)
    assert used[-10:] == ["TPESampler"] * 3 + ["RandomSampler"] * 7


@SEARCHES
def test_an_extended_search_equals_one_that_was_long_from_the_start(
    search: str, run: RunFolder, drive: Callable[..., Ledger], facts: Callable[[Ledger], list[Record]]
) -> None:
    assert len(drive(run, 7, search).records) == 7
    assert facts(drive(run, 15, search)) == facts(drive(RunFolder(f"{run}-long"), 15, search))


@pytest.mark.heavy
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
    search: str, run: RunFolder, make_searcher: Make, report: Report
) -> None:
    searcher = make_searcher(run, search)
    first, second, third = (next_record(searcher) for _ in range(3))
    end(searcher, second, "COMPLETE", [report(1, 0.2)])
    third.report(report(1, 0.1))
    third.report(report(2, 0.1))
    searcher.ledger.write(third)

    again = make_searcher(run, search)
    configs = [again.suggest("id") for _ in range(3)]
    assert all(isinstance(c, dict) for c in configs)
    proposed = [(c["trial"], json.loads(c["recipe"]), c["reported"]) for c in configs]  # type: ignore[index]
    assert proposed[:2] == [(first.name, first.recipe, 0), (third.name, third.recipe, 2)]
    assert proposed[2][0] not in (first.name, second.name, third.name)
    for trial, record in zip(again.study.trials, again.ledger.records.values(), strict=True):
        if record.recipe:
            assert trial.params == record.params
    end(again, again.ledger.records[third.name], "PRUNED", [report(3, 0.05)])
    index = list(again.ledger.records).index(third.name)
    assert again.study.trials[index].intermediate_values == {1: 0.1, 2: 0.1, 3: 0.05}
    assert again.study.trials[index].state == TrialState.PRUNED


def test_an_impossible_combination_is_recorded_and_skipped(run: RunFolder, make_searcher: Make) -> None:
    searcher = make_searcher(run, "random", trials=30)
    ran = []
    while isinstance(config := searcher.suggest("id"), dict):
        ran.append(config["trial"])
    failed = searcher.ledger.with_status("FAILED")
    assert len(ran) + len(failed) == 30  # they count: a search has an end whatever its space
    assert failed
    for record in failed:
        assert record.params["loss.lds.size"] % 2 == 0
        assert "is even" in record.error
        assert record.recipe == {}
    assert all(Recipe.parse(searcher.ledger.records[name].recipe) for name in ran)
    assert len(Ledger(run).records) == 30
    assert make_searcher(run, "random", trials=30).unfinished == searcher.ledger.with_status("PENDING")


def test_a_space_of_impossible_combinations_only_comes_to_an_end(run: RunFolder, make_searcher: Make) -> None:
    class Even(Space):
        def draw(self, trial: Any) -> Any:
            trial.suggest_int("loss.lds.size", 2, 2)
            return {}, self.base.with_overrides({"loss.lds.size": 2})

    searcher = make_searcher(run, trials=4, space=Even(Recipe(), (), {}))
    assert searcher.suggest("id") == "FINISHED"
    assert [r.status for r in searcher.ledger.records.values()] == ["FAILED"] * 4


@pytest.mark.heavy
def test_optuna_learns_and_random_does_not(run: RunFolder, drive: Callable[..., Ledger]) -> None:
    def late_mean(search: str) -> float:
        scores: list[float] = []
        for seed in range(3):
            ledger = drive(RunFolder(f"{run}-{search}-{seed}"), 30, search, seed)
            late = [r for r in ledger.records.values() if r.recipe and r.number >= 15]
            scores += [float(r.params["head.dropout"]) for r in late]
        return sum(scores) / len(scores)

    assert late_mean("optuna") < late_mean("random") - 0.03


@SEARCHES
def test_start_recipes_come_first_and_optuna_knows_their_labels(
    search: str, run: RunFolder, make_searcher: Make, report: Report, starts: list[Start]
) -> None:
    searcher = make_searcher(run, search, starts=starts)
    records = [next_record(searcher) for _ in range(4)]
    assert [r.origin for r in records] == ["start", "start", "start", "search"]
    for record, (params, recipe) in zip(records, starts, strict=False):
        assert (record.params, record.recipe) == (params, recipe.to_dict())
        assert searcher.study.trials[record.number].params == params
    end(searcher, records[0], "COMPLETE", [report(1, 0.5)])
    end(searcher, records[2], "COMPLETE", [report(1, 0.6)])  # without labels: nothing to learn, and no error
    assert (searcher.study.trials[0].state, searcher.study.trials[0].value) == (TrialState.COMPLETE, 0.5)
    again = make_searcher(run, search, starts=starts)
    assert study_facts(again) == study_facts(searcher)
    assert [r.name for r in again.unfinished] == ["t0001", records[3].name]


def test_the_sampler_learns_from_start_trials(
    run: RunFolder, make_searcher: Make, report: Report, space: Space, starts: list[Start]
) -> None:
    def first_proposal(run: RunFolder, scores: tuple[float, ...]) -> dict[str, Any]:
        points: list[Start] = [({**starts[0][0], "head.dropout": 0.04 * i}, space.base) for i in range(12)]
        searcher = make_searcher(run, starts=points)
        for score in scores:
            end(searcher, next_record(searcher), "COMPLETE", [report(1, score)])
        return next_record(searcher).params

    rising = tuple(0.05 * i for i in range(12))
    low, high = first_proposal(run, rising[::-1]), first_proposal(RunFolder(f"{run}-b"), rising)
    assert low["head.dropout"] < high["head.dropout"]


def test_a_start_trial_whose_record_was_deleted_is_proposed_again(
    run: RunFolder, make_searcher: Make, starts: list[Start]
) -> None:
    searcher = make_searcher(run, starts=starts)
    first, lost, third, fourth = (next_record(searcher) for _ in range(4))
    run.trials.delete(f"{lost.name}.json")
    again = make_searcher(run, starts=starts)
    assert [next_record(again).name for _ in range(4)] == [r.name for r in (first, third, fourth, lost)]
    assert again.ledger.records["t0001"] == lost


def test_fewer_trials_than_start_recipes(run: RunFolder, make_searcher: Make, starts: list[Start]) -> None:
    searcher = make_searcher(run, trials=2, starts=starts)
    assert [next_record(searcher).recipe for _ in range(2)] == [recipe.to_dict() for _, recipe in starts[:2]]
    assert searcher.suggest("id") == "FINISHED"
    longer = make_searcher(run, trials=20, starts=starts)
    assert [next_record(longer).origin for _ in range(4)] == ["start"] * 3 + ["search"]


def test_the_sampler_learns_from_earlier_trials(
    run: RunFolder, make_searcher: Make, report: Report, starts: list[Start]
) -> None:
    def first_proposal(run: RunFolder, slope: float) -> dict[str, Any]:
        earlier = [
            Record(i, {**starts[0][0], "head.dropout": 0.04 * i}, {}, "COMPLETE", [report(1, slope * i)])
            for i in range(12)
        ]
        searcher = make_searcher(run, earlier=earlier)
        assert [t.value for t in searcher.study.trials] == [slope * i for i in range(12)]
        return next_record(searcher).params

    low, high = first_proposal(run, -0.05), first_proposal(RunFolder(f"{run}-b"), 0.05)
    assert low["head.dropout"] < high["head.dropout"]


@SEARCHES
def test_no_recipe_is_proposed_twice_while_there_are_others(
    search: str, run: RunFolder, make_searcher: Make, report: Report, space: Space
) -> None:
    small = Space.parse(
        {"base": space.base.to_dict(), "search": {"seed": {"choice": [*range(8)]}}, "start": [{"seed": 3}]}
    )
    options: dict[str, Any] = {"trials": 10, "space": small, "starts": small.starts()}
    earlier = [Record(0, {"seed": 5}, {}, "COMPLETE", [report(1, 0.9)])]
    searcher = make_searcher(run, search, earlier=earlier, **options)
    seeds = []
    for i in range(10):
        if i == 4:
            searcher = make_searcher(run, search, earlier=earlier, **options)
        record = next_record(searcher)
        seeds.append(record.params["seed"])
        end(searcher, record, "COMPLETE", [report(1, 0.1)])
    assert sorted([*seeds[:7], 5]) == [*range(8)]


class Apart:
    """Value of a trial: how far its score is from those of the others."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run

    def __call__(self, names: Sequence[str]) -> dict[str, float]:
        scores = {name: record.score or 0.0 for name, record in Ledger(self.run).records.items() if name in names}
        return {a: min([abs(scores[a] - scores[b]) for b in names if b != a], default=0.0) for a in names}


def test_values_of_all_complete_trials_are_those_of_now(
    run: RunFolder, make_searcher: Make, report: Report, starts: list[Start]
) -> None:
    searcher = make_searcher(run, "random", starts=starts, values=Apart(run), earlier=[Record(0, {}, {}, "COMPLETE")])
    first, second, third = (next_record(searcher) for _ in range(3))
    end(searcher, first, "COMPLETE", [report(1, 0.1)])
    end(searcher, second, "COMPLETE", [report(1, 0.5)])
    next_record(searcher)
    assert [t.value for t in searcher.study.trials[:2]] == pytest.approx([0.4, 0.4])
    end(searcher, third, "COMPLETE", [report(1, 0.2)])
    next_record(searcher)
    assert [t.value for t in searcher.study.trials[:3]] == pytest.approx([0.1, 0.3, 0.1])
    states = [t.state for t, r in zip(searcher.study.trials, searcher.ledger.records.values(), strict=True) if r.recipe]
    assert states[3:] == [TrialState.RUNNING] * (len(states) - 3)


def test_a_complete_trial_without_a_value_is_not_in_the_study(
    run: RunFolder, make_searcher: Make, report: Report, starts: list[Start]
) -> None:
    searcher = make_searcher(run, "random", starts=starts, values=lambda names: {n: 0.1 for n in names if n != "t0000"})
    for _ in range(2):
        end(searcher, next_record(searcher), "COMPLETE", [report(1, 0.1)])
    next_record(searcher)
    assert [t.value for t in searcher.study.trials] == [0.1, None]


@pytest.mark.heavy
@SEARCHES
def test_a_search_for_other_values_killed_anywhere_proposes_what_an_undisturbed_one_does(
    search: str,
    run: RunFolder,
    drive: Callable[..., Ledger],
    facts: Callable[[Ledger], list[Record]],
    killed: type[BaseException],
    starts: list[Start],
) -> None:
    def sweep(run: RunFolder, kill_after: int | None = None) -> Ledger:
        return drive(run, 16, search, kill_after=kill_after, starts=starts, values=Apart(run))

    undisturbed = facts(sweep(RunFolder(f"{run}-0")))
    if search == "optuna":
        assert undisturbed != facts(drive(RunFolder(f"{run}-score"), 16, search, starts=starts))
    for kill_after in (3, 14, 31, 45, 60):
        disturbed = RunFolder(f"{run}-{kill_after}")
        with pytest.raises(killed):
            sweep(disturbed, kill_after)
        assert facts(sweep(disturbed)) == undisturbed, kill_after


def test_samplers_are_those_promised(run: RunFolder, make_searcher: Make) -> None:
    def sampler(search: str) -> optuna.samplers.BaseSampler:
        searcher = make_searcher(RunFolder(f"{run}-{search}"), search)
        next_record(searcher)
        return searcher.study.sampler

    assert isinstance(sampler("random"), optuna.samplers.RandomSampler)
    tpe = sampler("optuna")
    assert isinstance(tpe, optuna.samplers.TPESampler)
    assert tpe._multivariate
    assert tpe._group
