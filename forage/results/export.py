"""A run for other tools: an Optuna storage, CSV, Parquet, an MLflow store, TensorBoard event files."""

from __future__ import annotations

import os
from pathlib import Path

import optuna

from forage.figures.study import frozen_trial, quiet
from forage.terminal.choices import TableFormat, TrackerFormat
from pasture.atomic import atomic_file
from pasture.errors import InputError, JobError
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from tune.records.ledger import Ledger
from tune.records.plan import Plan
from tune.trackers.choose import check_packages, mlflow_uri, open_tracker
from tune.trackers.tracker import ENDED, Follower


def export(run: RunFolder, target: TableFormat, out: Path) -> int:
    """Write the trials of a run, and return how many they are.

    `optuna` writes an SQLite storage with one study, named after the run: every trial with its state, its fields, the
    score after each epoch as intermediate values and, as user attributes, its name, origin and error. `csv` and
    `parquet` write one row a trial, as in trials.parquet.

    Raises:
        InputError: no run directory, or a record is damaged.
        JobError: the file cannot be written.
    """
    plan, ledger = Plan.read(run), Ledger(run)
    with atomic_file(out) as partial:
        try:
            if target == "optuna":
                _write_study(run.name, ledger, Space.parse(plan.space, "sweep.yaml"), partial)
            elif target == "csv":
                ledger.table().to_csv(partial, index=False)
            else:
                ledger.table().to_parquet(partial, index=False)
        except OSError as error:
            raise JobError(f"{out}: cannot be written ({error.strerror})") from None
    return len(ledger.records)


def export_to_tracker(run: RunFolder, target: TrackerFormat, out: Path | None) -> tuple[str, int]:
    """Write what a tracker lacks of the trials of a run, under the names of live tracking.

    Args:
        run: the run directory.
        target: which tracker.
        out: folder to write to; None for where live tracking writes (see `tune.trackers.choose.open_tracker`).

    Returns:
        The place that was written to, for the command that shows it, and the number of trials.

    Raises:
        InputError: no run directory, a damaged record, a package that is missing, or an object store without `out`.
        JobError: the tracker fails.
    """
    check_packages([target], "--to")
    Plan.read(run)
    ledger = Ledger(run)
    elsewhere = out is not None or (target == "mlflow" and os.environ.get("MLFLOW_TRACKING_URI"))
    if not elsewhere and not run.folder.is_local:
        raise InputError(f"--to {target}: {run} is not local; choose a local folder with --out")
    try:
        follower = Follower(open_tracker(target, run, out))
        for record in ledger.records.values():
            if record.curve or record.status in ENDED:
                follower.follow(record)
        follower.pause()
    except Exception as error:  # a package, a server or a disk
        raise JobError(f"--to {target}: {' '.join(str(error).split())[:300] or type(error).__name__}") from None
    place = mlflow_uri(run, out) if target == "mlflow" else str(out or f"{run.trackers}/tensorboard")
    return place, len(ledger.records)


def _write_study(name: str, ledger: Ledger, space: Space, file: Path) -> None:
    quiet()
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        study = optuna.create_study(direction="maximize", study_name=name, storage=storage)
        study.add_trials([frozen_trial(record, space.parameters) for record in ledger.records.values()])
    finally:
        storage.engine.dispose()
