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
from forage.replay.table import Table
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


@pytest.fixture(scope="module")
def serial_ray() -> Iterator[None]:
    """Ray with one CPU, so that one trial runs at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")
        ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def space(frozen_recipe: Recipe) -> Space:
    """Nine heads on a frozen backbone."""
    base = frozen_recipe.with_overrides({"schedule.epochs": 9, "head.hidden": [8], "optimizer.head_lr": 0.01})
    return Space.parse({"base": base.to_dict(), "search": {f: {"choice": options} for f, options in GRID.items()}})


@pytest.fixture(scope="module")
def table(space: Space, dataset: VerifiedDataset, tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Every recipe of the space, trained without the first date."""
    grid = _train_the_grid(RunFolder(tmp_path_factory.mktemp("grid") / "run"), space, held_out(dataset))
    return table_of([grid], dataset, space, "d4")


def held_out(dataset: VerifiedDataset) -> VerifiedDataset:
    """The photographs without those of the first date."""
    return dataset.hold_out([dataset.dates[0]])


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
    serial_ray: None,
    table: Table,
    space: Space,
    dataset: VerifiedDataset,
    data_folder: Path,
    tmp_path: Path,
    pruner: Any,
) -> None:
    limits = Limits(trials=TRIALS, pruner=pruner, outer=tuple(held_out(dataset).outer_dates))
    real = launch(RunFolder(tmp_path / "run"), data_folder, space, limits, seed=3, connection=ExistingRay())
    simulated = simulate(ForageSearch(table, table.splits[0], limits, "optuna", 3), table.splits[0])

    replayed = sorted((trial.record for trial in simulated.trials), key=lambda record: record.number)
    sweep = [*real.ledger.records.values()]
    assert _facts(replayed) == _facts(sweep)
    assert {record.status for record in sweep} == {"COMPLETE", "PRUNED"}
