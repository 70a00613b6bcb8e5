"""A run for other tools: an Optuna storage, CSV, Parquet."""

from __future__ import annotations

from pathlib import Path

import optuna

from forage.figures.study import frozen_trial, quiet
from forage.terminal.formats import TableFormat
from pasture.atomic import atomic_file
from pasture.errors import JobError
from pasture.run_folder import RunFolder
from search_spaces.space import Space
from tune.records.ledger import Ledger
from tune.records.plan import Plan


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


def _write_study(name: str, ledger: Ledger, space: Space, file: Path) -> None:
    quiet()
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    try:
        study = optuna.create_study(direction="maximize", study_name=name, storage=storage)
        study.add_trials([frozen_trial(record, space.parameters) for record in ledger.records.values()])
    finally:
        storage.engine.dispose()
