"""Launching a sweep, resuming one and tidying its run directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import ray.tune

from pasture.dataset import read_train
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset, verify
from search_spaces.space import Space
from trainables.features import embeddings
from trainables.recipe.versions import versions
from trainables.trial.preflight import check_recipe
from tune.cluster.connection import Connection, RayConnection
from tune.cluster.data_server import serve_data
from tune.cluster.placement import Placement
from tune.cluster.ray_trial import RayTrial
from tune.pruning.pruners import rung_epochs
from tune.records.ledger import Ledger, Record
from tune.records.lock import exclusive_lock
from tune.records.plan import RESOURCES, Limits, Plan, Search, option
from tune.records.retention import Retention
from tune.records.stop import reaches
from tune.search.blend_gain import check_comparable
from tune.search.confirmation import is_over
from tune.search.warm_start import EARLIER_TRIALS, warm_start, write_earlier_trials
from tune.session import Cluster, Outcome, Session, ignore
from tune.trackers.choose import check_trackers
from tune.trackers.live import LiveTrackers

LOCAL = RayConnection()


def launch(
    run: RunFolder,
    data: Path,
    space: Space,
    limits: Limits,
    *,
    search: Search = "optuna",
    seed: int = 0,
    connection: Connection = LOCAL,
    trainable: type[ray.tune.Trainable] = RayTrial,
    watch: Callable[[Record], None] = ignore,
) -> Outcome:
    """Start a sweep in a new run directory.

    Everything is checked before anything is written, cheap checks first.

    Args:
        run: the run directory, which does not exist yet.
        data: the data folder.
        space: the search space.
        limits: budget, pruning and resources.
        search: how trials are proposed.
        seed: of the search.
        connection: how to reach Ray.
        trainable: the class that runs a trial.
        watch: called with a trial's record after every event of the trial.

    Raises:
        InputError: bad data, an impossible recipe, a run directory that exists, resources that no node has.
        JobError: Ray or the disk fails.
    """
    space, dataset = check_launch(run, data, space, limits)
    plan = Plan(
        **limits.model_dump(),
        data=str(dataset.root),
        space=space.to_dict(),
        search=search,
        seed=seed,
        fingerprint=dataset.content,
        versions=versions(),
    )
    with _stdout_to_stderr(), connection.open():
        placement = Placement(space, plan)
        with exclusive_lock(run) as hold:
            _check_unused(run)  # again: another launch of this name may have finished since
            run.write_truth(dataset)
            for bank in {bank for recipe in space.variants("backbone") for bank in recipe.banks}:
                embeddings.publish(bank, run.banks)
            if plan.warm_start:
                write_earlier_trials(run, plan, RunFolder(plan.warm_start))
            plan.write(run)
            with serve_data(dataset, connection.local) as node:
                cluster = Cluster(placement, node, trainable, connection.on_loss)
                return Session(run, plan, Ledger(run), hold, cluster, watch).work()


def check_launch(run: RunFolder, data: Path, space: Space, limits: Limits) -> tuple[Space, VerifiedDataset]:
    """Check a launch as far as that needs no Ray, cheap checks first; nothing is written.

    Args:
        run, data, space, limits: as of `launch`.

    Returns:
        The space with the start recipes of a warm start, and the labelled data.

    Raises:
        InputError: bad data, an impossible recipe, a run directory that exists.
    """
    _check_unused(run)
    if limits.warm_start:
        space = warm_start(space, RunFolder(limits.warm_start), limits.start)
    _check_limits(limits, space)
    check_trackers(limits.track, run)
    _check_writable(run)
    return space, _checked_data(data, space, limits.outer)


def resume(
    run: RunFolder,
    changes: Mapping[str, Any] | None = None,
    *,
    retry_failed: bool = False,
    connection: Connection = LOCAL,
    trainable: type[ray.tune.Trainable] = RayTrial,
    watch: Callable[[Record], None] = ignore,
) -> Outcome:
    """Continue a sweep from its run directory alone.

    Changes are checked first; nothing is written unless the sweep can go on with them.

    Args:
        run: the run directory.
        changes: new values of fields of the plan (see `tune.records.plan.CHANGEABLE`), `data` where the data folder has
            moved.
        retry_failed: run failed trials again, from their beginning.
        connection: how to reach Ray.
        trainable: the class that runs a trial.
        watch: as of `launch`.

    Raises:
        InputError: no run directory, damaged records, changes that the sweep cannot go on with, data that changed,
            another driver at work in it.
        JobError: Ray or the disk fails.
    """
    before = Plan.read(run)
    plan = before.changed(changes or {})
    check_trackers(plan.track, run)
    with exclusive_lock(run) as hold:
        ledger = Ledger(run)
        failed = ledger.retryable() if retry_failed else []
        if plan.trials < before.trials and plan.trials < ledger.proposed:
            raise InputError(
                f"--trials {plan.trials}: {run} has {ledger.proposed} trials already; expected at least as many"
            )
        over = not failed and is_over(ledger, plan)
        if over or reaches(ledger.best(), plan.until_score):
            plan = _checked_without_ray(plan, before, run)
            _write_changes(plan, before, run)
            ledger.write_table()
            with LiveTrackers(plan.track, run, ledger, partial(print, file=sys.stderr)):
                return Outcome(run, ledger, None if over else "score")
        plan, dataset = _with_same_data(plan, run)
        with _stdout_to_stderr(), connection.open():
            placement = Placement(Space.parse(plan.space), plan)
            _write_changes(plan, before, run)
            for record in failed:
                ledger.retry(record)
            with serve_data(dataset, connection.local) as node:
                cluster = Cluster(placement, node, trainable, connection.on_loss)
                return Session(run, plan, ledger, hold, cluster, watch).work()


def collect(run: RunFolder, keep: int | None = None) -> int:
    """Delete what a run directory no longer needs.

    Args:
        run: the run directory.
        keep: how many complete trials keep their weights; None for what the sweep was asked to keep.

    Returns:
        The number of bytes freed.

    Raises:
        InputError: no run directory, or a driver is at work in it.
    """
    plan = Plan.read(run)
    plan = plan if keep is None else plan.changed({"keep": keep})
    with exclusive_lock(run):
        return Retention(run, Ledger(run), plan.keep).collect()


def _check_limits(limits: Limits, space: Space) -> None:
    """Check what was asked for against the epochs and folds of the space.

    Raises:
        InputError: a first stage or rungs that the epochs leave no room for, or recipes that do not share folds.
    """
    if limits.promote and space.epochs == 1:
        raise InputError("--promote: trials of this space have one epoch only, which leaves no first stage; do without")
    if limits.pruner != "none":
        rung_epochs(space.epochs, limits.grace, limits.reduction)
    if limits.objective == "blend":
        check_comparable(space)


def _checked_data(data: Path, space: Space, outer: Sequence[str]) -> VerifiedDataset:
    """The labelled data without the outer dates, once every recipe of the space can be trained on them.

    Raises:
        InputError: bad data, or a recipe that cannot be trained.
    """
    table = read_train(data).hold_out(outer)
    for recipe in space.variants("validation"):
        recipe.validation.assign(table)
    dataset = verify(table, _needs_pictures(space))
    for recipe in space.variants("backbone", "view"):
        check_recipe(recipe, dataset.ids)
    return dataset


def _with_same_data(plan: Plan, run: RunFolder) -> tuple[Plan, VerifiedDataset]:
    """The plan with the absolute path of its data folder, and the labelled data, which have not changed.

    Raises:
        InputError: bad data, or other data than the sweep was launched with.
    """
    dataset = verify(read_train(plan.data).hold_out(plan.outer), _needs_pictures(Space.parse(plan.space)))
    if dataset.content != plan.fingerprint:
        raise InputError(f"{plan.data}: the data have changed since {run} was started; put them back or start anew")
    return plan.changed({"data": str(dataset.root)}), dataset


def _checked_without_ray(plan: Plan, before: Plan, run: RunFolder) -> Plan:
    """The plan of a sweep with nothing left to run, once its changes are checked.

    Raises:
        InputError: other data, or resources, which only a running Ray can check.
    """
    for name in RESOURCES:
        if getattr(plan, name) != getattr(before, name):
            raise InputError(
                f"{option(name)}: nothing is left to run in {run}, so it cannot be checked; give it with more --trials"
            )
    return plan if plan.data == before.data else _with_same_data(plan, run)[0]


def _needs_pictures(space: Space) -> bool:
    return any(recipe.needs_pictures for recipe in space.variants("backbone"))


def _write_changes(plan: Plan, before: Plan, run: RunFolder) -> None:
    if plan != before:
        plan.write(run)


def _check_unused(run: RunFolder) -> None:
    if run.folder.exists("sweep.yaml"):
        raise InputError(f"{run}: this run exists; choose another --name, or go on with `forage resume {run}`")
    if run.folder.is_local and _has_other_files(Path(run.folder.path)):
        raise InputError(f"{run}: the folder is not empty and not a run directory; choose another --name")


def _has_other_files(folder: Path) -> bool:
    """Whether a folder holds files other than those that a launch writes before sweep.yaml."""
    ours = {"truth.parquet", "banks", EARLIER_TRIALS}
    return folder.is_dir() and any(not path.name.startswith(".") and path.name not in ours for path in folder.iterdir())


def _check_writable(run: RunFolder) -> None:
    if not run.folder.is_local:
        return
    path = Path(run.folder.path)
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"cannot make {run}: {nearest} is not a folder that can be written to; choose another --runs")


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what Ray prints about its processes to standard error: standard output is for results."""
    with redirect_stdout(sys.stderr):
        yield
