"""Two sweeps with every option of the search: the second begins with the best recipes of the first. Slow.

The same Ray refuses a trial that it can never hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from pasture.errors import InputError
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from tests.e2e.conftest import SPACE
from tune.cluster.connection import ExistingRay
from tune.records.ledger import Record
from tune.records.plan import Limits
from tune.sweep import launch, resume

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

EPOCHS = 3
Records = list[Record]


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """This process is connected to a Ray of its own."""
    ray.init(address="local", num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def sweeps(session: None, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Records, Records]:
    """The records of the first sweep and those of the second, which is resumed with more trials and confirmations."""
    folder = tmp_path_factory.mktemp("runs")
    space = Space.parse(SPACE).fixed({"schedule.epochs": EPOCHS})
    shared = ExistingRay()
    first = launch(
        RunFolder(folder / "first"), data, space, Limits(trials=4, pruner="paired", confirm=1), connection=shared
    )
    run = RunFolder(folder / "second")
    limits = Limits(trials=4, pruner="paired", grace=2, objective="blend", warm_start=str(folder / "first"))
    launch(run, data, space, limits, connection=shared)
    second = resume(run, {"trials": 6, "confirm": 1}, connection=shared)
    assert second.stopped_by is None
    return list(first.ledger.records.values()), list(second.ledger.records.values())


def test_a_trial_that_the_cluster_can_never_hold_is_refused(session: None, data: Path, tmp_path: Path) -> None:
    limits = Limits(trials=1, gpus_per_trial=9)
    with pytest.raises(InputError, match=r"can never hold a trial of 1 CPU and 9 GPU, in 9 workers.* too little GPU"):
        launch(RunFolder(tmp_path / "run"), data, Space.parse(SPACE), limits, connection=ExistingRay())
    assert not (tmp_path / "run").exists()


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
