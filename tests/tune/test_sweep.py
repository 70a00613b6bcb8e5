"""Launching and resuming up to where Ray would start; whole sweeps are in tests/e2e."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from pasture.checksum import add_checksum
from pasture.dataset import read_train
from pasture.errors import InputError, StorageError
from pasture.parquet import read_parquet
from pasture.run_folder import RunFolder
from pasture.synthetic import make_data
from pasture.verification import verify
from search_spaces.space import Space
from trainables.recipe.recipe import Recipe
from tune import session, sweep
from tune.records.ledger import Ledger, Status
from tune.records.plan import Limits, Plan
from tune.session import Session


class RayStartedError(Exception):
    """Nothing was wrong: Ray would have started now."""


class NoRay:
    """A connection that raises where Ray would start."""

    local = True
    on_loss = None

    @contextmanager
    def open(self) -> Iterator[None]:
        raise RayStartedError
        yield


class ReadyRay:
    """A connection that only calls a function when it opens."""

    local = True
    on_loss = None

    def __init__(self, opened: Callable[[], Any] = lambda: None) -> None:
        self.opened = opened

    @contextmanager
    def open(self) -> Iterator[None]:
        self.opened()
        yield


launch = partial(sweep.launch, connection=NoRay())
resume = partial(sweep.resume, connection=NoRay())


@pytest.fixture
def start(run: RunFolder, data: Path, space: Space) -> Callable[..., None]:
    """`start(run=..., data=..., space=...)`: launch until Ray would start."""

    def start(run: RunFolder = run, data: Path = data, space: Space = space) -> None:
        launch(run, data, space, Limits(trials=2), search="random")

    return start


@pytest.fixture
def plan(data: Path, space: Space) -> dict[str, Any]:
    """The content of a sound sweep.yaml."""
    return {
        "data": str(data),
        "space": space.to_dict(),
        "trials": 2,
        "search": "random",
        "seed": 0,
        "cpus_per_trial": 1.0,
        "gpus_per_trial": None,
        "fingerprint": verify(read_train(data)).fingerprint,
        "versions": {},
    }


def test_a_sound_launch_gets_as_far_as_ray_and_has_written_nothing(start: Callable[..., None], run: RunFolder) -> None:
    with pytest.raises(RayStartedError):
        start()
    assert not run.folder.exists()


def test_refusals_come_in_the_order_of_their_price_before_ray(
    start: Callable[..., None], tmp_path: Path, data: Path, space: Space
) -> None:
    """Everything is wrong at once; mended one by one, the next thing is named."""
    root = tmp_path / "runs"
    run = RunFolder(root / "a")
    run.write_sweep({})
    bad = tmp_path / "data"
    lonely = space.fixed({"validation.folds": 40, "backbone.name": "resnet19"})

    def refused(kind: type[Exception], message: str, space: Space = lonely) -> None:
        with pytest.raises(kind, match=message) as caught:
            start(run, bad, space)
        assert "\n" not in str(caught.value)

    refused(InputError, "this run exists; choose another --name, or go on with `forage resume .*/runs/a`")
    (root / "a" / "sweep.yaml").rename(root / "a" / "notes.txt")
    refused(InputError, "not empty and not a run directory")
    shutil.rmtree(root)
    root.write_text("a file")
    refused(InputError, "not a folder that can be written to")
    root.unlink()
    refused(InputError, "no such data folder")
    shutil.copytree(data, bad)
    picture = next((bad / "train").iterdir())
    picture.write_bytes(picture.read_bytes()[:500])
    refused(InputError, "needs at least 40 sampling dates")
    few = lonely.fixed({"validation.folds": 3})
    refused(InputError, f"{picture.name}: not a readable picture", few)
    shutil.copy(data / "train" / picture.name, picture)
    refused(InputError, "resnet19.*no such model", few)
    with pytest.raises(RayStartedError):
        start(run, bad, few.fixed({"backbone.name": "resnet18"}))
    assert not root.exists()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"backbone.name": {"choice": ["resnet18", "resnet19"]}}, "resnet19.*no such model"),
        ({"backbone.weights": {"choice": ["none", "package:nothing-here"]}}, "nothing-here.*not installed"),
        ({"validation.folds": {"choice": [3, 40]}}, "at least 40 sampling dates"),
    ],
)
def test_what_only_some_trials_would_meet_is_met_before_any(
    start: Callable[..., None], space: Space, search: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        start(space=Space.parse({"base": space.base.to_dict(), "search": search}))


@pytest.mark.parametrize("files", [(), (".driver.lock", "truth.parquet", ".sweep.yaml.0a1b2c3d.tmp")])
def test_an_empty_folder_may_become_a_run_and_one_whose_launch_was_killed(
    start: Callable[..., None], tmp_path: Path, files: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    for name in files:
        (tmp_path / "empty" / name).touch()
    with pytest.raises(RayStartedError):
        start(RunFolder(tmp_path / "empty"))


def test_plan_round_trip(run: RunFolder, plan: dict[str, Any]) -> None:
    limits = {
        "hours": 1.5,
        "until_score": 0.7,
        "trial_timeout": 60.0,
        "max_failures": 0,
        "keep": 3,
        "promote": 1,
        "gpus_per_fold": 2,
        "pruner": "paired",
        "grace": 4,
        "reduction": 4,
        "objective": "blend",
        "confirm": 3,
        "warm_start": "runs/before",
        "outer": ["2015-05-05"],
        "start": False,
        "track": ["csv", "wandb"],
    }
    run.write_sweep(plan | limits)
    assert Plan.read(run).to_dict() == plan | limits
    assert Space.parse(Plan.read(run).space) == Space.parse(plan["space"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a run directory"),
        (b"", "damaged"),
        (b"trials: 3", "damaged, or edited by hand"),
        (add_checksum(b"trials: 3")[:-1], "damaged, or edited by hand"),
        (add_checksum(b"trials: ["), "damaged"),
        (add_checksum(b"\xff\xfe\xff"), "damaged"),
        (add_checksum(b"- a"), "damaged"),
        (add_checksum(b"trials: 3"), r"damaged, or of another version \(format None, expected 1 to 1\)"),
        (add_checksum(b"format: 1\ntrials: 3"), r"damaged, or of another version \(keys \['data', 'fingerprint'"),
        (add_checksum(b"format: 2\nnew: 3"), "sweep.yaml: format 2, written by a newer forage; this one reads"),
    ],
)
def test_a_damaged_plan(run: RunFolder, content: bytes | None, message: str) -> None:
    if content is not None:
        run.folder.write("sweep.yaml", content)
    with pytest.raises(InputError, match=message) as caught:
        Plan.read(run)
    assert "\n" not in str(caught.value)


def test_a_plan_of_another_version_names_the_odd_keys(run: RunFolder, plan: dict[str, Any]) -> None:
    del plan["seed"]
    run.write_sweep(plan | {"budget": 3})
    with pytest.raises(InputError, match=r"keys \['budget', 'seed'\]"):
        Plan.read(run)


def test_resume_refuses_before_ray(run: RunFolder, plan: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        resume(run)
    assert not run.folder.exists()
    moved = tmp_path / "moved"
    run.write_sweep(plan | {"data": str(moved)})
    with pytest.raises(InputError, match="no such data folder"):
        resume(run)
    shutil.copytree(plan["data"], moved)
    picture = next((moved / "train").iterdir())
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(InputError, match="the data have changed since"):
        resume(run)
    run.write_sweep(plan)
    with pytest.raises(RayStartedError):
        resume(run)
    run.trials.write("t0000.json", b"{")
    with pytest.raises(InputError, match=r"t0000\.json: damaged"):
        resume(run)


@pytest.mark.heavy
def test_a_second_driver_is_refused_and_a_later_one_is_not(run: RunFolder, plan: dict[str, Any]) -> None:
    run.write_sweep(plan)
    with (
        FileLock(run.folder.file(".driver.lock")),
        pytest.raises(InputError, match="another forage is at work in this run directory"),
    ):
        resume(run)
    with pytest.raises(RayStartedError):
        resume(run)
    with pytest.raises(RayStartedError):
        resume(run)


def test_what_resume_is_told_is_kept(run: RunFolder, plan: dict[str, Any]) -> None:
    run.write_sweep(plan)
    with pytest.raises(InputError, match="no such data folder"):
        resume(run, changes={"trials": 9, "data": "/gone"})
    assert Plan.read(run) == Plan(**plan)
    with pytest.raises(InputError, match="--hours -1: expected more than 0"):
        resume(run, changes={"hours": -1})
    ledger = Ledger(run)
    for _ in range(2):
        record = ledger.propose({}, Recipe())
        record.status = "FAILED"
        ledger.write(record)
    assert resume(run).stopped_by is None
    assert resume(run, changes={"max_failures": 7}).stopped_by is None
    assert Plan.read(run) == Plan(**plan | {"max_failures": 7})
    with pytest.raises(RayStartedError):  # there is work again
        resume(run, changes={"trials": 3})


def finish(run: RunFolder, plan: dict[str, Any], *statuses: Status) -> Ledger:
    """A run directory whose trials have ended."""
    run.write_sweep(plan)
    ledger = Ledger(run)
    for status in statuses:
        record = ledger.propose({}, Recipe())
        record.status = status
        record.error = "no memory" if status == "FAILED" else ""
        ledger.write(record)
    return ledger


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 1}, "--trials 1: .*/run has 2 trials already; expected at least as many"),
        ({"data": "/nowhere"}, "/nowhere: no such data folder"),
        ({"data": "OTHER"}, "the data have changed since"),
        ({"gpus_per_trial": 64}, "--gpus-per-trial: nothing is left to run in .*, so it cannot be checked"),
        ({"pruner": "none"}, "--pruner: cannot be changed in a sweep that has started"),
    ],
)
def test_changes_to_a_finished_sweep_are_checked_before_they_are_written(
    run: RunFolder, plan: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    finish(run, plan, "COMPLETE", "FAILED")
    if changes.get("data") == "OTHER":
        make_data(tmp_path / "other", images=24, seed=5, width=128, height=64)
        changes = {"data": str(tmp_path / "other")}
    before = run.folder.read("sweep.yaml")
    with pytest.raises(InputError, match=message) as caught:
        resume(run, changes=changes)
    assert "\n" not in str(caught.value)
    assert run.folder.read("sweep.yaml") == before


def test_a_finished_sweep_learns_where_its_data_are_now(run: RunFolder, plan: dict[str, Any], tmp_path: Path) -> None:
    finish(run, plan, "COMPLETE", "COMPLETE")
    moved = shutil.copytree(plan["data"], tmp_path / "moved")
    assert resume(run, changes={"data": str(moved)}).stopped_by is None
    assert Plan.read(run).data == str(moved)


def test_failed_trials_run_again_only_when_asked_for(
    run: RunFolder, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = finish(run, plan, "COMPLETE", "FAILED")
    ledger.write_log(ledger.records["t0001"], "Traceback")
    assert resume(run).stopped_by is None
    with pytest.raises(RayStartedError):
        resume(run, retry_failed=True)
    assert Ledger(run).records["t0001"].status == "FAILED"  # nothing is written before Ray is up
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    monkeypatch.setattr(Session, "work", lambda session: session.ledger.left(2))
    assert resume(run, retry_failed=True, connection=ReadyRay()) == 1
    record = Ledger(run).records["t0001"]
    assert (record.status, record.curve, record.error) == ("PENDING", [], "")
    assert not run.trials.exists("t0001.log")


def test_a_launch_that_another_one_has_overtaken_is_refused(
    run: RunFolder, data: Path, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.nodes", lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}])
    rival = ReadyRay(lambda: run.write_sweep({"rival": True}))
    with pytest.raises(InputError, match="this run exists"):
        sweep.launch(run, data, space, Limits(trials=2), connection=rival)
    assert run.read_sweep() == {"rival": True}


def test_a_first_stage_needs_epochs_to_save(run: RunFolder, data: Path, space: Space) -> None:
    fitted = Space.parse({"base": {"head": {"kind": "ridge"}, "backbone": {"name": "resnet18", "weights": "none"}}})
    for impossible in (fitted, space.fixed({"schedule.epochs": 1})):
        with pytest.raises(InputError, match="--promote: trials of this space have one epoch only"):
            launch(run, data, impossible, Limits(trials=2, promote=1))
    with pytest.raises(RayStartedError):
        launch(run, data, space.fixed({"schedule.epochs": 2}), Limits(trials=2, promote=1))


def test_more_cannot_be_promoted_than_there_are(run: RunFolder, plan: dict[str, Any]) -> None:
    for count, message in (
        (0, "--promote 0: expected more than 0"),
        (3, "--promote 3: expected at most as many as"),
    ):
        with pytest.raises(InputError, match=message):
            Limits(trials=2, promote=count)
    run.write_sweep(plan | {"promote": 2})
    with pytest.raises(InputError, match="--promote 2: expected at most as many as --trials 1"):
        resume(run, changes={"trials": 1})


def test_a_sweep_whose_trials_wait_is_not_over(
    run: RunFolder, plan: dict[str, Any], report: Callable[..., Any]
) -> None:
    run.write_sweep(plan | {"promote": 1})
    ledger = Ledger(run)
    for status in ("WAITING", "PRUNED"):
        record = ledger.propose({}, Recipe())
        record.report(report(1, 0.5))
        record.status = status  # type: ignore[assignment]
        ledger.write(record)
    with pytest.raises(RayStartedError):
        resume(run)


def test_a_sweep_that_has_its_score_needs_no_ray(
    run: RunFolder, plan: dict[str, Any], report: Callable[..., Any]
) -> None:
    run.write_sweep(plan)
    record = Ledger(run).propose({}, Recipe())
    record.report(report(1, 0.5))
    record.status = "COMPLETE"
    Ledger(run).write(record)
    assert resume(run, changes={"until_score": 0.5}).stopped_by == "score"
    with pytest.raises(RayStartedError):
        resume(run, changes={"until_score": 0.51})


def test_a_plan_from_before_a_limit_was_known_has_its_default(run: RunFolder, plan: dict[str, Any]) -> None:
    run.write_sweep(plan)
    assert (Plan.read(run).hours, Plan.read(run).max_failures) == (None, 2)


def test_a_finished_sweep_needs_neither_ray_nor_its_data(
    run: RunFolder, plan: dict[str, Any], report: Callable[..., Any]
) -> None:
    run.write_sweep(plan | {"data": "/gone"})
    ledger = Ledger(run)
    for status in ("COMPLETE", "FAILED"):
        record = ledger.propose({}, Recipe())
        record.report(report(1, 0.1))
        record.status = status  # type: ignore[assignment]
        ledger.write(record)
    outcome = resume(run)
    assert outcome.stopped_by is None
    assert outcome.ledger.records == ledger.records
    # The driver may have died between the last trial and the table.
    assert read_parquet(run.folder, "trials.parquet").num_rows == 2


def test_where_the_storage_fails_it_is_said_how_to_go_on(run: RunFolder) -> None:
    with (
        pytest.raises(StorageError, match=f"disk is full; then go on with: forage resume {run}"),
        session._resumable(run),
    ):
        raise StorageError("disk is full")


def test_the_plan_on_disk_is_plain_yaml(run: RunFolder, plan: dict[str, Any]) -> None:
    run.write_sweep(plan)
    text = run.folder.read("sweep.yaml").decode()
    assert yaml.safe_load(text) == {"format": 1, **plan}
    assert "!!" not in text
