"""Simulated sweeps: the clock, the budget, and decisions that are those of a sweep on Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from forage.replay.blend import complete, outer_loss, pooled_r2
from forage.replay.forage_search import ForageSearch
from forage.replay.simulate import Simulated, simulate
from forage.replay.table import Table
from pasture.metric import weighted_r2
from tests.forage.replay.conftest import EPOCHS
from tune.records.plan import Limits, Pruner, Search

MakeTable = Callable[..., Table]


def sweep(
    table: Table, workers: int = 1, seed: int = 0, search: Search = "optuna", pruner: Pruner = "asha", trials: int = 20
) -> Simulated:
    strategy = ForageSearch(table, table.splits[0], Limits(trials=trials, pruner=pruner), search, seed)
    return simulate(strategy, table.splits[0], workers)


def test_start_recipes_run_first_and_whole(make_table: MakeTable) -> None:
    trials = sweep(make_table()).trials
    assert [trial.record.origin for trial in trials[:3]] == ["start", "start", "search"]
    assert [(trial.entry, trial.record.status, len(trial.record.curve)) for trial in trials[:2]] == [
        (0, "COMPLETE", EPOCHS),
        (1, "COMPLETE", EPOCHS),
    ]


@pytest.mark.parametrize("pruner", ["asha", "paired", "none"])
def test_pruned_trials_end_at_a_rung_and_the_others_at_the_end(make_table: MakeTable, pruner: Pruner) -> None:
    trials = sweep(make_table(), pruner=pruner).trials
    assert {len(trial.record.curve) for trial in trials if trial.record.status == "COMPLETE"} == {EPOCHS}
    pruned = {len(trial.record.curve) for trial in trials if trial.record.status == "PRUNED"}
    assert pruned <= {1, 3}
    assert bool(pruned) == (pruner != "none")
    for trial in trials:
        assert trial.seconds == pytest.approx(sum(report["seconds"] for report in trial.record.curve))


def test_the_clock_of_one_worker_is_the_sum_of_all_trials(make_table: MakeTable) -> None:
    simulated = sweep(make_table())
    assert simulated.makespan == pytest.approx(simulated.seconds)
    assert [trial.time for trial in simulated.trials] == pytest.approx(
        np.cumsum([trial.seconds for trial in simulated.trials]).tolist()
    )


def test_more_workers_take_less_time_and_are_never_more_than_there_are(make_table: MakeTable) -> None:
    table = make_table()
    times = [sweep(table, workers, pruner="none").makespan for workers in (1, 4, 20)]
    assert times[0] > times[1] > times[2]
    assert times[2] == pytest.approx(max(trial.seconds for trial in sweep(table, 20, pruner="none").trials))
    spans = [(trial.time - trial.seconds, trial.time) for trial in sweep(table, 4, pruner="none").trials]
    for begin, _ in spans:
        assert sum(start <= begin + 1e-9 < end - 1e-9 for start, end in spans) <= 4


def test_the_same_seed_decides_alike_and_another_does_not(make_table: MakeTable) -> None:
    table = make_table()
    told = [[(t.entry, t.record.status) for t in sweep(table, seed=seed).trials] for seed in (0, 0, 1)]
    assert told[0] == told[1] != told[2]


@pytest.mark.heavy
def test_tpe_learns_from_the_recipes_that_ran(make_table: MakeTable) -> None:
    """With many recipes TPE's later proposals are better than random search's."""
    table = make_table(recipes=200, splits=1)
    means = {}
    for search in ("optuna", "random"):
        late = [
            trial.record.score
            for seed in range(4)
            for trial in sweep(table, seed=seed, search=search, pruner="none", trials=50).trials[25:]  # type: ignore[arg-type]
        ]
        means[search] = np.mean([score for score in late if score is not None])
    assert means["optuna"] > means["random"] + 0.02


@pytest.mark.heavy
def test_score_per_second_gets_further_where_costs_differ(make_table: MakeTable) -> None:
    """A backbone that takes 100 times as long and is no better: for the same compute more recipes, and better ones."""
    table = make_table(recipes=150, splits=1)
    costly = [entry.backbone == "resnet34" for entry in table.entries]
    trained = [
        replace(each, seconds=100 * each.seconds) if large and each else each
        for large, each in zip(costly, table.splits[0].trained, strict=True)
    ]
    split = replace(table.splits[0], trained=trained)
    best, count = {}, {}
    for objective in ("score", "score-per-second"):
        limits = Limits(trials=24, pruner="none", start=False, objective=objective)  # type: ignore[arg-type]
        runs = [simulate(ForageSearch(table, split, limits, "optuna", seed), split, seconds=3e3) for seed in (0, 2)]
        scores = [[trial.record.score or 0.0 for trial in run.trials if trial.computed <= 3e3] for run in runs]
        best[objective] = np.mean([max(each) for each in scores])
        count[objective] = np.mean([len(each) for each in scores])
        shares = [np.mean([costly[trial.entry] for trial in run.trials]) for run in runs]
        assert all(share > 0 for share in shares), "the costly backbone is tried"
    assert count["score-per-second"] > 2 * count["score"]
    assert best["score-per-second"] > best["score"]


def test_a_budget_ends_the_proposals(make_table: MakeTable) -> None:
    table = make_table()
    strategy = ForageSearch(table, table.splits[0], Limits(trials=40, pruner="none"), "random", 0)
    simulated = simulate(strategy, table.splits[0], seconds=50.0)
    assert 50.0 <= simulated.seconds < 50.0 + max(trial.seconds for trial in simulated.trials)


def test_a_slow_driver_keeps_workers_waiting(make_table: MakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decision takes one simulated second: with many workers the driver is what limits."""
    ticks = iter(range(10**9))
    monkeypatch.setattr("forage.replay.simulate.time.process_time", lambda: float(next(ticks)))
    table = make_table()
    strategy = ForageSearch(table, table.splits[0], Limits(trials=20, pruner="none"), "random", 0)
    simulated = simulate(strategy, table.splits[0], 20, driver=True)
    decisions = 20 + 1 + 20 * EPOCHS
    assert simulated.driver_seconds == decisions
    assert simulated.makespan >= 20 * EPOCHS


def test_blends_of_what_was_complete_are_scored_on_outer_dates(make_table: MakeTable) -> None:
    table = make_table()
    simulated = sweep(table, pruner="none")
    half = complete(simulated, simulated.seconds / 2)
    assert half == [trial.entry for trial in simulated.trials][: len(half)]
    assert 5 < len(half) < 15
    losses = [outer_loss(table, split, half, "uniform") for split in table.splits]
    truth = np.concatenate([split.outer_truth for split in table.splits])
    mean = [np.mean([split.trained[n].outer for n in half], axis=0) for split in table.splits]  # type: ignore[union-attr]
    assert pooled_r2(table.splits, losses) == pytest.approx(weighted_r2(truth, np.concatenate(mean)))
    greedy = pooled_r2(table.splits, [outer_loss(table, split, half, "greedy") for split in table.splits])
    assert greedy != pytest.approx(weighted_r2(truth, np.concatenate(mean)))
