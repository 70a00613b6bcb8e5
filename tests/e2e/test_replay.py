"""A replay and a sweep on Ray decide alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from forage.outer_cv.run_sweeps import OuterRun
from forage.replay.build import table_of
from forage.replay.forage_search import ForageSearch
from forage.replay.simulate import simulate
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset
from search_spaces.drawing import Fixed
from search_spaces.space import Space
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial
from tune.cluster.connection import ExistingRay
from tune.records.ledger import Ledger, Record
from tune.records.plan import Limits
from tune.sweep import launch

GRID: dict[str, list[Any]] = {"optimizer.head_lr": [0.003, 0.01, 0.03], "head.hidden": [[8], [16], []]}
TRIALS = 12


@pytest.fixture
def serial_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray with one CPU, so that one trial runs at a time."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _facts(records: list[Record]) -> list[tuple[Any, ...]]:
    return [(r.name, r.origin, r.status, r.params, [report["score"] for report in r.curve]) for r in records]


def _train_the_grid(run: RunFolder, space: Space, dataset: VerifiedDataset) -> OuterRun:
    """Train every recipe of the grid in this process, as a sweep without pruning would."""
    run.write_truth(dataset)
    ledger = Ledger(run)
    start = {recipe.hash for _, recipe in space.starts()}
    for values in product(*({v if isinstance(v, float) else str(v): v for v in options} for options in GRID.values())):
        labels, recipe = space.draw(Fixed(dict(zip(GRID, values, strict=True))))
        record = ledger.propose(labels, recipe, origin="start" if recipe.hash in start else "search")
        trial = Trial(record.name, recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, torch.device("cpu"))))
        while not trial.done:
            record.report(dict(trial.step()))
        write_finished(run, trial)
        record.status = "COMPLETE"
        ledger.write(record)
    return OuterRun(run, "table", 0, tuple(sorted(dataset.outer_dates)), {}, frozenset())


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["asha", "paired"])
def test_a_serial_replay_and_a_sweep_on_ray_decide_alike(
    serial_ray: None, dataset: VerifiedDataset, data_folder: Path, frozen_recipe: Recipe, tmp_path: Path, pruner: Any
) -> None:
    base = frozen_recipe.with_overrides({"schedule.epochs": 9, "head.hidden": [8], "optimizer.head_lr": 0.01})
    search = {field: {"choice": options} for field, options in GRID.items()}
    space = Space.parse({"base": base.to_dict(), "search": search})
    held = dataset.hold_out([dataset.dates[0]])
    table = table_of([_train_the_grid(RunFolder(tmp_path / "grid"), space, held)], dataset, space, "d4")
    limits = Limits(trials=TRIALS, pruner=pruner, outer=tuple(held.outer_dates))

    real = launch(RunFolder(tmp_path / "run"), data_folder, space, limits, seed=3, connection=ExistingRay())
    simulated = simulate(ForageSearch(table, table.splits[0], limits, "optuna", 3), table.splits[0])

    replayed = sorted((trial.record for trial in simulated.trials), key=lambda record: record.number)
    sweep = [*real.ledger.records.values()]
    assert _facts(replayed) == _facts(sweep)
    assert {record.status for record in sweep} == {"COMPLETE", "PRUNED"}
