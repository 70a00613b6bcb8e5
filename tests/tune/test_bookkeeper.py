from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions

from pasture.errors import StorageError
from pasture.parquet import read_parquet
from pasture.run_folder import RunFolder
from trainables.recipe.recipe import Recipe
from tune import bookkeeper
from tune.bookkeeper import Bookkeeper
from tune.pruning.promotion import Promotion
from tune.pruning.pruners import make_pruner
from tune.pruning.scheduler import PruningScheduler
from tune.records import ledger
from tune.records.ledger import Ledger, Record
from tune.records.retention import Retention
from tune.records.stop import Stop


class RecordingSearcher:
    """A searcher that records the results it gets."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []

    def report_end(self, record: Record) -> None:
        self.ends.append((record.name, record.status))


class House:
    """A bookkeeper, and all it keeps books for, around one trial."""

    def __init__(self, run: RunFolder, promote: int | None = None) -> None:
        self.run, self.ledger, self.searcher = run, Ledger(run), RecordingSearcher()
        self.watched: list[tuple[str, str, int]] = []
        self.ticks: list[float] = []
        self.stop = Stop()
        retention = Retention(run, self.ledger, None)
        promotion = Promotion(self.ledger, retention, trials=2, count=promote, epochs=9)
        self.scheduler = PruningScheduler(self.ledger, make_pruner("asha", 9), promotion.cut)
        self.keeper = Bookkeeper(
            self.ledger,
            self.scheduler,
            self.searcher,  # type: ignore[arg-type]
            self.stop,
            promotion,
            self.watch,
            lambda: self.ticks.append(time.monotonic()),
        )
        self.record = self.ledger.propose({}, Recipe())
        error = RuntimeError("the worker\ndied")
        config = {"trial": self.record.name}
        self.trial = SimpleNamespace(config=config, last_result={}, get_pickled_error=lambda: error)
        run.checkpoints.write(f"{self.record.name}.pt", b"state")

    def watch(self, record: Record) -> None:
        self.watched.append((record.name, record.status, len(record.curve)))

    def result(self, **content: Any) -> None:
        self.trial.last_result = content
        self.keeper.on_trial_result(0, [], self.trial, content)

    def on_disk(self) -> Record:
        return Ledger(self.run).records[self.record.name]


@pytest.fixture
def house(run: RunFolder) -> House:
    return House(run)


Report = Callable[..., dict[str, Any]]


def test_epochs_are_written_in_groups(house: House, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    house.ledger.flush()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    house.keeper.on_trial_start(0, [], house.trial)
    for epoch in (1, 2):
        house.result(report=report(epoch, 0.1 * epoch), finished=False, done=False)
        house.keeper.on_step_begin(0, [])
    assert (house.on_disk().status, len(house.on_disk().curve)) == ("RUNNING", 0)
    now += 0.1 + max(ledger.GROUP_SECONDS, 0.1 / ledger.GROUP_SHARE)
    house.keeper.on_step_begin(0, [])
    assert len(house.ticks) == 3
    assert house.on_disk() == house.record
    assert (house.on_disk().status, len(house.on_disk().curve)) == ("RUNNING", 2)
    assert house.watched == [("t0000", "RUNNING", 0), ("t0000", "RUNNING", 1), ("t0000", "RUNNING", 2)]
    assert house.searcher.ends == []
    assert house.run.checkpoints.exists("t0000.pt")


def test_where_a_trial_runs_and_how_long_it_waited(
    house: House, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + 30
    monkeypatch.setattr(time, "monotonic", lambda: later)
    house.keeper.on_trial_start(0, [], house.trial)
    assert house.on_disk().waited == pytest.approx(30, abs=5)
    house.result(report=report(1, 0.1), where="node-a, GPU 1", finished=True, done=True)
    assert house.on_disk().where == "node-a, GPU 1"
    again = House(house.run)  # another session: nothing is known of the time between them
    record = again.ledger.records["t0001"]
    again.ledger._proposed_at.clear()
    again.ledger.start(record)
    assert record.waited is None


@pytest.mark.parametrize(
    ("ending", "status", "epochs"),
    [("finished", "COMPLETE", 1), ("pruned", "PRUNED", 1), ("error", "FAILED", 0)],
)
def test_an_ending(house: House, report: Report, ending: str, status: str, epochs: int) -> None:
    if ending == "error":
        house.result(error="the loss is nan", done=True)
    else:
        if ending == "pruned":
            house.scheduler.pruned.add("t0000")
        house.result(report=report(1, 0.1), finished=ending == "finished", done=True)
    assert house.on_disk().status == status  # with the very report that ended it: a kill in between loses nothing
    assert house.watched == []
    house.keeper.on_trial_complete(0, [], house.trial)
    assert (house.on_disk().status, len(house.on_disk().curve)) == (status, epochs)
    assert house.on_disk().error == ("the loss is nan" if ending == "error" else "")
    assert house.searcher.ends == [("t0000", status)]
    assert house.watched == [("t0000", status, epochs)]
    assert not house.run.checkpoints.exists("t0000.pt")


def test_a_proposal_is_not_running_before_it_has_a_worker(house: House) -> None:
    assert house.on_disk().status == "PENDING"
    house.keeper.on_trial_start(0, [], house.trial)
    assert house.on_disk().status == "RUNNING"


def test_a_trial_that_waits_keeps_its_checkpoint_and_then_runs_on(run: RunFolder, report: Report) -> None:
    house = House(run, promote=1)
    house.result(report=report(3, 0.1), epoch=3, finished=False, done=True)
    house.keeper.on_trial_complete(0, [], house.trial)
    assert house.on_disk().status == "WAITING"
    assert house.searcher.ends == [("t0000", "WAITING")]
    assert run.checkpoints.exists("t0000.pt")
    house.keeper.on_trial_start(0, [], house.trial)
    assert house.on_disk().status == "RUNNING"


def test_a_waiting_trial_is_pruned_when_a_better_one_comes(run: RunFolder, report: Report) -> None:
    house = House(run, promote=1)
    for score in (0.1, 0.2):
        house.result(report=report(3, score), epoch=3, finished=False, done=True)
        house.keeper.on_trial_complete(0, [], house.trial)
        house.trial.config = {"trial": house.ledger.propose({}, Recipe()).name}
    assert [r.status for r in Ledger(run).records.values()] == ["PRUNED", "WAITING", "PENDING"]
    assert not run.checkpoints.exists("t0000.pt")
    assert house.watched == [("t0000", "WAITING", 1), ("t0000", "PRUNED", 1), ("t0001", "WAITING", 1)]


def test_a_node_without_memory_is_named(house: House) -> None:
    house.trial.get_pickled_error = lambda: ray.exceptions.OutOfMemoryError("the node\nran low")
    house.keeper.on_trial_error(0, [], house.trial)
    assert house.on_disk().error.startswith("its node ran out of memory; raise --cpus-per-trial")


def test_a_worker_killed_for_a_reason_is_failed_with_it(house: House) -> None:
    house.record.error = "not over after 3 s"
    house.keeper.on_trial_error(0, [], house.trial)
    assert (house.on_disk().status, house.on_disk().error) == ("FAILED", "not over after 3 s")


def test_a_worker_that_died_too_often(house: House, report: Report) -> None:
    house.result(report=report(1, 0.1), finished=False, done=False)
    house.keeper.on_trial_error(0, [], house.trial)
    assert house.on_disk().status == "FAILED"
    assert house.on_disk().error == "worker lost: the worker died"
    assert house.searcher.ends == [("t0000", "FAILED")]


def test_a_worker_that_cannot_write_stops_the_sweep_and_its_trial_has_not_failed(house: House, report: Report) -> None:
    house.keeper.on_trial_start(0, [], house.trial)
    house.result(report=report(1, 0.1), finished=False, done=False)
    before = house.on_disk()
    house.result(error="cannot write t0000.pt: No space left on device", stop=True, done=True)
    house.keeper.on_trial_complete(0, [], house.trial)
    assert house.stop.stop_all()
    assert str(house.stop.failure) == "cannot write t0000.pt: No space left on device"
    assert house.on_disk() == before
    assert house.searcher.ends == []
    assert house.run.checkpoints.exists("t0000.pt")


@pytest.mark.parametrize("failing", ["write", "write_table"])
def test_a_driver_that_cannot_write_stops_the_sweep(
    house: House, report: Report, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    house.keeper.on_trial_start(0, [], house.trial)
    monkeypatch.setattr(bookkeeper, "_TABLE_SECONDS", 0.0)

    def full(*_: object) -> None:
        raise StorageError("cannot write: No space left on device")

    monkeypatch.setattr(Ledger, failing, full)
    house.result(report=report(1, 0.1), finished=True, done=True)
    house.keeper.on_trial_complete(0, [], house.trial)
    assert (house.stop.reason, house.stop.stop_all()) == ("failure", True)
    monkeypatch.undo()
    # The record on disk and the files agree: what could not be written down has not happened.
    unwritten = failing == "write"
    assert house.on_disk().status == ("RUNNING" if unwritten else "COMPLETE")
    assert house.run.checkpoints.exists("t0000.pt") == unwritten
    assert house.searcher.ends == ([] if unwritten else [("t0000", "COMPLETE")])
    house.keeper.on_trial_error(0, [], house.trial)  # Ray's own words about the ending
    assert house.on_disk().status == ("RUNNING" if unwritten else "COMPLETE")


def test_the_table_is_written_now_and_then(house: House, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    house.result(report=report(1, 0.1), finished=True, done=True)
    house.keeper.on_trial_complete(0, [], house.trial)
    assert not house.run.folder.exists("trials.parquet")
    monkeypatch.setattr(bookkeeper, "_TABLE_SECONDS", 0.0)
    house.keeper.on_trial_complete(0, [], house.trial)
    assert read_parquet(house.run.folder, "trials.parquet").num_rows == 1


def test_the_traceback_of_a_failed_trial_is_kept_beside_its_record(house: House) -> None:
    house.result(error="KeyError: 'x'", traceback="Traceback: line 1\nKeyError: 'x'", done=True)
    assert house.run.trials.read("t0000.log") == b"Traceback: line 1\nKeyError: 'x'"
    assert house.on_disk().error == "KeyError: 'x'"


def test_all_that_ray_says_of_a_lost_worker_is_kept_beside_its_record(house: House) -> None:
    house.keeper.on_trial_error(0, [], house.trial)
    assert house.run.trials.read("t0000.log") == b"the worker\ndied"
