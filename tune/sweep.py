"""Launching a sweep and resuming one. Both are the same act: run what the ledger says is still to be run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import ray.tune
from filelock import FileLock, Timeout

from pasture.dataset import read_train, verify_pictures
from pasture.errors import InputError
from pasture.folds import make_folds
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from trainables.backbone import check_backbone
from trainables.ray_trial import RayTrial
from trainables.versions import versions
from tune.asha import AshaScheduler
from tune.bookkeeper import Bookkeeper
from tune.cluster import connect, trial_resources
from tune.ledger import Ledger
from tune.progress import Progress
from tune.proposer import Proposer, Search
from tune.stop import Stop

WORKER_DEATHS_FORGIVEN = 2
"""How often the worker of one trial may die (out of memory, a lost node) before the trial counts as failed."""


@dataclass(frozen=True)
class Plan:
    """What was asked for: the content of sweep.yaml.

    Attributes:
        data: data folder.
        space: as `Space.to_dict`.
        trials: how many, those of every ending counted.
        search: optuna or random.
        seed: of the search.
        cpus_per_trial, gpus_per_trial: what each trial asks Ray for; no number of GPUs means one where there is any.
        fingerprint: of the data.
        versions: of packages, when it was launched.
    """

    data: str
    space: dict[str, Any]
    trials: int
    search: Search
    seed: int
    cpus_per_trial: float
    gpus_per_trial: float | None
    fingerprint: str
    versions: dict[str, str]

    @classmethod
    def read(cls, run: RunFolder) -> Plan:
        """The plan of a run directory.

        Raises:
            InputError: no run directory, or sweep.yaml is damaged.
        """
        content = run.read_sweep()
        names = {f.name for f in fields(cls)}
        if set(content) != names:
            raise InputError(f"{run}/sweep.yaml: damaged, or of another version (keys {sorted(set(content) ^ names)})")
        return cls(**content)


@dataclass(frozen=True)
class Outcome:
    """How a session of a sweep ended."""

    run: RunFolder
    ledger: Ledger
    interrupted: bool


def launch(
    run: RunFolder,
    data: Path,
    space: Space,
    *,
    trials: int,
    search: Search,
    seed: int,
    address: str,
    cpus_per_trial: float,
    gpus_per_trial: float | None,
) -> Outcome:
    """Start a sweep in a new run directory.

    Everything that can be wrong is looked at first, cheap things before dear ones, and nothing is written before.

    Raises:
        InputError: bad data, an impossible recipe, a run directory that exists, resources that no node has.
        JobError: Ray or the disk fails.
    """
    if run.folder.exists("sweep.yaml"):
        raise InputError(f"{run}: this run exists; choose another --name, or go on with `forage resume {run}`")
    if run.folder.is_local and Path(run.folder.path).is_dir() and any(Path(run.folder.path).iterdir()):
        raise InputError(f"{run}: the folder is not empty and not a run directory; choose another --name")
    dataset = read_train(data)
    for recipe in space.variants("validation"):
        v = recipe.validation
        make_folds(dataset, v.splitter, v.folds, v.seed)
    fingerprint = verify_pictures(dataset)
    for recipe in space.variants("backbone", "view"):
        check_backbone(recipe.backbone, recipe.view.size)
    plan = Plan(
        data=str(dataset.root),
        space=space.to_dict(),
        trials=trials,
        search=search,
        seed=seed,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        fingerprint=fingerprint,
        versions=versions(),
    )
    with connect(address):
        resources = trial_resources(cpus_per_trial, gpus_per_trial)
        with _alone(run):
            run.write_truth(dataset)
            run.write_sweep(asdict(plan))
            return _run(plan, run, resources)


def resume(run: RunFolder, address: str) -> Outcome:
    """Go on with a sweep, from its run directory alone.

    Raises:
        InputError: no run directory, damaged records, data that changed, another driver at work in it.
        JobError: Ray or the disk fails.
    """
    plan = Plan.read(run)
    dataset = read_train(plan.data)
    if verify_pictures(dataset) != plan.fingerprint:
        raise InputError(f"{plan.data}: the data have changed since {run} was started; put them back or start anew")
    with connect(address):
        resources = trial_resources(plan.cpus_per_trial, plan.gpus_per_trial)
        with _alone(run):
            return _run(plan, run, resources)


def _run(plan: Plan, run: RunFolder, resources: dict[str, float]) -> Outcome:
    space = Space.parse(plan.space)
    epochs = max(recipe.schedule.epochs for recipe in space.variants("schedule"))
    ledger = Ledger(run)
    left = plan.trials - len(ledger.with_status("COMPLETE", "PRUNED", "FAILED"))
    if left <= 0:
        return Outcome(run, ledger, interrupted=False)
    job = {"run": str(run.folder), "data": plan.data, "fingerprint": plan.fingerprint}
    scheduler = AshaScheduler(epochs, ledger)
    proposer = Proposer(space, plan.search, plan.seed, ledger, job)
    with (
        Progress(ledger, plan.trials, epochs, run.name) as progress,
        tempfile.TemporaryDirectory(prefix="forage-ray-") as scratch,
        Stop() as stop,
    ):
        # Not Tuner: it pickles all it is given for its own way of resuming, which is not ours.
        ray.tune.run(
            RayTrial,
            name=run.name,
            resources_per_trial=ray.tune.PlacementGroupFactory([resources]),
            num_samples=left,
            search_alg=proposer,
            scheduler=scheduler,
            stop=stop,
            callbacks=[Bookkeeper(ledger, scheduler, proposer, run.checkpoints, progress.watch)],
            max_failures=WORKER_DEATHS_FORGIVEN,
            reuse_actors=True,
            raise_on_failed_trial=False,
            trial_dirname_creator=lambda trial: str(trial.config["trial"]),
            storage_path=scratch,
            verbose=0,
        )
    ledger.write_table()
    return Outcome(run, ledger, interrupted=stop.requested)


@contextmanager
def _alone(run: RunFolder) -> Iterator[None]:
    """Hold the run directory; the system lets go of it when this process dies, however it dies."""
    if not run.folder.is_local:
        yield
        return
    Path(run.folder.path).mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.folder.file(".driver.lock"), timeout=0):
            yield
    except Timeout:
        raise InputError(f"{run}: another forage is at work in this run directory; wait for it or stop it") from None
