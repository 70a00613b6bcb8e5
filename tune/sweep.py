"""Launching a sweep and resuming one. Both are the same act: run what the ledger says is still to be run."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import ray.tune

from pasture.dataset import read_train
from pasture.errors import InputError, JobError, StorageError
from pasture.run_folder import RunFolder
from pasture.verification import verify
from search_spaces.space import Space
from trainables.features import embeddings
from trainables.recipe.recipe import Recipe
from trainables.recipe.versions import versions
from trainables.trial.preflight import check_recipe
from tune.bookkeeper import Bookkeeper
from tune.cluster.connection import connect
from tune.cluster.data_server import serve_data
from tune.cluster.placement import Placement
from tune.cluster.ray_health import watch_ray
from tune.cluster.ray_trial import RayTrial
from tune.cluster.trial_job import TrialJob
from tune.cluster.trial_timeout import TrialTimeout
from tune.records.ledger import Ledger, Record
from tune.records.lock import Hold, exclusive_lock
from tune.records.plan import Limits, Plan, Search
from tune.records.progress import Progress
from tune.records.retention import Retention
from tune.records.stop import Stop, StopReason, reaches
from tune.search.optuna_searcher import OptunaSearcher
from tune.search.promotion import Promotion
from tune.search.pruners import make_pruner
from tune.search.scheduler import PruningScheduler


@dataclass(frozen=True)
class Outcome:
    """How a session of a sweep ended.

    Attributes:
        stopped_by: what stopped it before all trials were over; None if they are.
    """

    run: RunFolder
    ledger: Ledger
    stopped_by: StopReason | None = None


def launch(
    run: RunFolder,
    data: Path,
    space: Space,
    limits: Limits,
    *,
    search: Search = "optuna",
    seed: int = 0,
    address: str = "local",
    ship_code: bool = False,
) -> Outcome:
    """Start a sweep in a new run directory.

    Everything that can be wrong is looked at first, cheap things before dear ones, and nothing is written before.

    Raises:
        InputError: bad data, an impossible recipe, a run directory that exists, resources that no node has.
        JobError: Ray or the disk fails.
    """
    if run.folder.exists("sweep.yaml"):
        raise InputError(f"{run}: this run exists; choose another --name, or go on with `forage resume {run}`")
    if limits.promote and space.epochs == 1:
        raise InputError("--promote: trials of this space have one epoch only, which leaves no first stage; do without")
    if run.folder.is_local and any(_foreign(Path(run.folder.path))):
        raise InputError(f"{run}: the folder is not empty and not a run directory; choose another --name")
    _check_writable(run)
    table = read_train(data).hold_out(limits.outer)
    for recipe in space.variants("validation"):
        recipe.validation.assign(table)
    dataset = verify(table, _needs_pictures(space))
    for recipe in space.variants("backbone", "view"):
        check_recipe(recipe, dataset.ids)
    plan = Plan(
        **limits.model_dump(),
        data=str(dataset.root),
        space=space.to_dict(),
        search=search,
        seed=seed,
        fingerprint=dataset.content,
        versions=versions(),
    )
    with _silence(), connect(address, ship_code):
        placement = Placement(space, plan)
        with exclusive_lock(run) as hold:
            run.write_truth(dataset)
            for bank in {bank for recipe in space.variants("backbone") for bank in recipe.banks}:
                embeddings.publish(bank, run.banks)
            plan.write(run)
            with serve_data(dataset, address) as node:
                return _run(plan, run, Ledger(run), placement, hold, node)


def resume(
    run: RunFolder, address: str = "local", changes: Mapping[str, Any] | None = None, *, ship_code: bool = False
) -> Outcome:
    """Go on with a sweep, from its run directory alone.

    Args:
        run: the run directory.
        address: of Ray.
        changes: to the plan: any of its limits but `promote`, or `data`, where the data folder has moved. They are
            kept.
        ship_code: send forage's own code to the nodes of a cluster.

    Raises:
        InputError: no run directory, damaged records, data that changed, another driver at work in it.
        JobError: Ray or the disk fails.
    """
    before = Plan.read(run)
    plan = before.changed(changes or {})
    with exclusive_lock(run) as hold:
        ledger = Ledger(run)
        if (over := len(ledger.ended()) >= plan.trials) or reaches(ledger.best(), plan.until_score):
            _keep(plan, before, run)
            ledger.write_table()
            return Outcome(run, ledger, None if over else "score")
        dataset = verify(read_train(plan.data).hold_out(plan.outer), _needs_pictures(Space.parse(plan.space)))
        if dataset.content != plan.fingerprint:
            raise InputError(f"{plan.data}: the data have changed since {run} was started; put them back or start anew")
        plan = plan.changed({"data": str(dataset.root)})
        with _silence(), connect(address, ship_code):
            placement = Placement(Space.parse(plan.space), plan)
            _keep(plan, before, run)
            with serve_data(dataset, address) as node:
                return _run(plan, run, ledger, placement, hold, node)


def collect(run: RunFolder, keep: int | None = None) -> int:
    """Delete what a run directory no longer needs; bytes that this has freed.

    Args:
        run: the run directory.
        keep: how many complete trials keep their weights; what the sweep was told, by default.

    Raises:
        InputError: no run directory, or a driver is at work in it.
    """
    plan = Plan.read(run)
    plan = plan if keep is None else plan.changed({"keep": keep})
    with exclusive_lock(run):
        return Retention(run, Ledger(run), plan.keep).collect()


def _keep(plan: Plan, before: Plan, run: RunFolder) -> None:
    if plan != before:
        plan.write(run)


def _run(plan: Plan, run: RunFolder, ledger: Ledger, placement: Placement, hold: Hold, node: str | None) -> Outcome:
    space = Space.parse(plan.space)
    retention = Retention(run, ledger, plan.keep)
    promotion = Promotion(ledger, retention, plan.trials, plan.promote, space.epochs)
    pruner = partial(
        make_pruner, plan.pruner, space.epochs, grace=plan.grace, reduction=plan.reduction, promote=plan.promote
    )

    def configure(record: Record) -> dict[str, Any]:
        job = TrialJob(
            run=str(run.folder),
            data=plan.data,
            fingerprint=plan.fingerprint,
            forage=versions()["forage"],
            trial=record.name,
            recipe=json.dumps(record.recipe),
            reported=len(record.curve),
            node=node,
            cut=promotion.cut,
            rungs=pruner().rungs,
            origin=record.origin,
            outer=plan.outer,
            **placement.request(Recipe.parse(record.recipe))._asdict(),
        )
        return job.to_config()

    with (
        Progress(ledger, plan.trials, space.epochs, run.name) as progress,
        Stop(plan.hours, plan.until_score, hold) as stop,
        watch_ray(run),
        _resumable(run),
    ):

        def watch(record: Record) -> None:
            progress.watch(record)
            stop.watch(record)

        # Each stage is a run of Ray's from the ledger alone, as a resumed sweep is.
        while stop.reason is None:
            promoted = [record.name for record in promotion.due()]
            left = ledger.left(plan.trials) + len(promoted)
            if not left:
                break
            if promoted:
                progress.say(f"the first stage is over; these go on to the end: {', '.join(promoted)}")
            scheduler = PruningScheduler(ledger, pruner(), promotion.cut)
            searcher = OptunaSearcher(
                space,
                ledger,
                configure,
                trials=plan.trials,
                search=plan.search,
                seed=plan.seed,
                starts=space.starts() if plan.start else (),
                promoted=promoted,
            )
            callbacks = [Bookkeeper(ledger, scheduler, searcher, retention, stop, promotion, watch)]
            if plan.trial_timeout:
                callbacks.append(TrialTimeout(ledger, plan.trial_timeout))
            with tempfile.TemporaryDirectory(prefix="forage-ray-", ignore_cleanup_errors=True) as scratch:
                # Not Tuner: it pickles all it is given for its own way of resuming, which is not ours.
                ray.tune.run(
                    RayTrial,
                    name=run.name,
                    num_samples=left,
                    search_alg=searcher,
                    scheduler=scheduler,
                    stop=stop,
                    callbacks=callbacks,
                    max_failures=plan.max_failures,
                    reuse_actors=True,
                    raise_on_failed_trial=False,
                    trial_dirname_creator=lambda trial: str(trial.config["trial"]),
                    storage_path=scratch,
                    verbose=0,
                )
        if hold.lost:
            raise JobError(f"{run}: another forage has taken this run directory over; this one has stopped")
        if stop.failure:
            raise stop.failure
        ledger.write_table()
        if stop.reason is None:
            run.features.clear()
    return Outcome(run, ledger, stop.reason if len(ledger.ended()) < plan.trials else None)


@contextmanager
def _resumable(run: RunFolder) -> Iterator[None]:
    """Say how to go on where the storage fails."""
    try:
        yield
    except StorageError as error:
        raise StorageError(f"{error}; then go on with: forage resume {run}") from None


def _silence() -> redirect_stdout[TextIO]:
    """What Ray tells of processes that died goes to standard error: standard output is for results."""
    return redirect_stdout(sys.stderr)


def _needs_pictures(space: Space) -> bool:
    return any(recipe.needs_pictures for recipe in space.variants("backbone"))


def _foreign(folder: Path) -> Iterator[Path]:
    """Files that a launch which was killed at its very beginning has not left."""
    if folder.is_dir():
        yield from (p for p in folder.iterdir() if not p.name.startswith(".") and p.name != "truth.parquet")


def _check_writable(run: RunFolder) -> None:
    if not run.folder.is_local:
        return
    path = Path(run.folder.path)
    nearest = next(p for p in (path, *path.parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise JobError(f"cannot make {run}: {nearest} is not a folder that can be written to; choose another --runs")
