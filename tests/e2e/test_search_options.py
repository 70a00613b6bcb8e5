"""Sweeps in one Ray session: two with every option of the search, where the second begins with the best recipes of the
first, and one with trials that are shorter than the start of a worker. Slow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import ray.tune

from pasture.errors import InputError
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from tests.e2e.conftest import SPACE
from tune.cluster.connection import ExistingRay
from tune.cluster.ray_trial import result_of
from tune.records.ledger import Record
from tune.records.plan import Limits
from tune.sweep import launch, resume

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

EPOCHS = 3
ONE_AT_A_TIME = {"cpus_per_trial": 2.0}
Records = list[Record]


class SlowToStart(ray.tune.Trainable):
    """A trial of half a second, in a process that takes seconds to start and leaves a file in the run directory."""

    def __init__(self, *args: Any, **options: Any) -> None:
        time.sleep(2)
        super().__init__(*args, **options)

    def setup(self, config: dict[str, Any]) -> None:
        (Path(config["run"]) / f"process-{os.getpid()}").touch()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        time.sleep(0.5)
        return result_of({"epoch": 1, "score": 0.5, "best_epoch": 1, "seconds": 0.0}, finished=True)


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """This process is connected to a Ray of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def sweeps(session: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Records, Records]:
    """The records of the first sweep and those of the second, which is resumed with more trials and confirmations."""
    folder = tmp_path_factory.mktemp("runs")
    space = Space.parse(SPACE).fixed({"schedule.epochs": EPOCHS})
    shared = ExistingRay()
    first = launch(
        RunFolder(folder / "first"),
        data,
        space,
        Limits(trials=4, pruner="paired", confirm=1, **ONE_AT_A_TIME),
        connection=shared,
    )
    run = RunFolder(folder / "second")
    limits = Limits(
        trials=4, pruner="paired", grace=2, objective="blend", warm_start=str(folder / "first"), **ONE_AT_A_TIME
    )
    launch(run, data, space, limits, connection=shared)
    second = resume(run, {"trials": 6, "confirm": 1}, connection=shared)
    assert second.stopped_by is None
    return list(first.ledger.records.values()), list(second.ledger.records.values())


def test_a_trial_that_the_cluster_can_never_hold_is_refused(session: None, data: Path, tmp_path: Path) -> None:
    limits = Limits(trials=1, gpus_per_trial=9)
    with pytest.raises(InputError, match=r"can never hold a trial of 1 CPU and 9 GPU, in 9 workers.* too little GPU"):
        launch(RunFolder(tmp_path / "run"), data, Space.parse(SPACE), limits, connection=ExistingRay())
    assert not (tmp_path / "run").exists()


def test_each_worker_starts_once(session: None, data: Path, tmp_path: Path) -> None:
    """Ray Tune alone would end a worker that is starting whenever another one becomes free."""
    run = RunFolder(tmp_path / "run")
    launch(
        run, data, Space.parse(SPACE), Limits(trials=20, pruner="none"), connection=ExistingRay(), trainable=SlowToStart
    )
    assert len([*(tmp_path / "run").glob("process-*")]) == 2


def test_origins(sweeps: tuple[Records, Records]) -> None:
    first, second = sweeps
    assert [record.origin for record in first] == ["start", "search", "search", "search", "confirm"]
    assert [record.origin for record in second][-1] == "confirm"
    assert sum(record.origin == "search" for record in second) >= 1


def test_start_and_confirming_trials_are_whole(sweeps: tuple[Records, Records]) -> None:
    for record in (record for records in sweeps for record in records if record.origin != "search"):
        assert (record.status, len(record.curve)) == ("COMPLETE", EPOCHS)


def test_reports_at_rungs_have_losses_on_each_date(sweeps: tuple[Records, Records]) -> None:
    first, second = sweeps
    for records, rung in ((first, 1), (second, 2)):
        for record in records:
            losses = [report.get("date_losses") for report in record.curve]
            assert [epoch for epoch, values in enumerate(losses, 1) if values] == sorted(
                {rung, len(losses)} & {1, 2, 3}
            )


def test_the_second_sweep_begins_with_the_best_of_the_first_and_repeats_none(sweeps: tuple[Records, Records]) -> None:
    first, second = sweeps
    complete = [r for r in first if r.status == "COMPLETE" and r.origin != "confirm"]
    best = max(complete, key=lambda r: r.score or 0.0)
    assert second[0].recipe == best.recipe
    assert second[0].score == best.score  # the same recipe, data and seed
    points = [str(sorted(r.params.items())) for r in (*second, *first) if r.origin == "search"]
    assert len(points) == len(set(points))
