"""Making a table: one random sweep without pruning for each split, then one file of what its trials did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from forage.outer_cv.dates import deal_dates
from forage.outer_cv.run_sweeps import OuterRun, run_sweeps
from forage.outer_cv.strategies import Sweep
from forage.replay.table import Entry, Split, Table, Trained
from pasture.dataset import Dataset
from pasture.errors import InputError
from pasture.oof import OofTable
from pasture.targets import WEIGHTS
from search_spaces.space import Space
from trainables.images.d4 import tta_elements
from trainables.recipe.sections import TtaName
from tune.records.ledger import Ledger, Record
from tune.records.plan import Limits

SWEEP: Final = "table"


def tabulate(
    dataset: Dataset, space: Space, limits: Limits, splits: int, runs: Path, say: Callable[[str], None]
) -> Table:
    """Train recipes of a space without each group of dates and collect what they did.

    The recipes are the start portfolio and random draws, the same ones for every split: random search proposes by
    seed and number alone.

    Args:
        dataset: labelled images.
        space: to draw recipes from.
        limits: `trials` is the number of recipes; what a trial requests from Ray.
        splits: number of groups of dates.
        runs: folder of the run directories; what is finished there is not run again.
        say: receives a line before each sweep.

    Raises:
        InputError: bad input, or run directories made with other options.
        JobError: Ray or the disk fails, or no recipe could be trained.
        Stopped: by a signal.
    """
    plain = limits.model_copy(update={"pruner": "none", "start": True, "promote": None})
    groups = deal_dates(dataset, splits, 0)
    done = list(run_sweeps(runs, dataset, [Sweep(SWEEP, space, plain, "random")], [groups], say))
    return table_of(done, dataset, space, "d4")


def table_of(runs: Sequence[OuterRun], dataset: Dataset, space: Space, tta: TtaName) -> Table:
    """A table of finished sweeps that ran the same recipes without different dates.

    Raises:
        InputError: the sweeps ran different recipes, or a run directory is damaged.
    """
    ledgers = [Ledger(run.run).records for run in runs]
    first = ledgers[0]
    for run, records in zip(runs, ledgers, strict=True):
        if {n: r.recipe for n, r in records.items()} != {n: r.recipe for n, r in first.items()}:
            raise InputError(f"{run.run}: its recipes are not those of {runs[0].run}; make the table anew")
    names = [name for name, record in first.items() if record.recipe]
    entries = [Entry(first[name].params, first[name].recipe, first[name].origin == "start") for name in names]
    splits = [
        _split(run, [records[n] for n in names], dataset, tta) for run, records in zip(runs, ledgers, strict=True)
    ]
    return Table(space, entries, splits)


def _split(run: OuterRun, records: Sequence[Record], dataset: Dataset, tta: TtaName) -> Split:
    held = dataset.hold_out(run.outer)
    row = {image: i for i, image in enumerate(dataset.ids)}
    rows = np.flatnonzero(held.scored)
    outer = np.flatnonzero(held.outer & held.measured)
    trained = [
        _trained(run, record, dataset, {"oof": rows, "outer": outer}, row, tta) if record.status == "COMPLETE" else None
        for record in records
    ]
    return Split(dataset.targets[rows], dataset.dates[rows], dataset.targets[outer], trained)


def _trained(
    run: OuterRun,
    record: Record,
    dataset: Dataset,
    rows: Mapping[str, np.ndarray],
    row: Mapping[str, int],
    tta: TtaName,
) -> Trained:
    tables = {"oof": run.run.read_oof(record.name), "outer": OofTable.read(run.run.outer, f"{record.name}.parquet")}
    orders = {}
    for name, table in tables.items():
        position = {row[image]: i for i, image in enumerate(table.image_ids)}
        try:
            orders[name] = [position[i] for i in rows[name]]
        except KeyError:
            raise InputError(f"{run.run}: {record.name} lacks predictions for some photographs") from None
    epochs = run.run.read_epochs(record.name)
    assert epochs is not None
    loss = (epochs[:, orders["oof"]] - dataset.targets[rows["oof"]]) ** 2 @ WEIGHTS  # (epochs, n)
    day = np.unique(dataset.dates[rows["oof"]], return_inverse=True)[1]
    return Trained(
        scores=np.array([report["score"] for report in record.curve]),
        seconds=np.array([report["seconds"] for report in record.curve]),
        date_losses=loss @ np.eye(day.max() + 1)[day],
        oof=tables["oof"].mean(tta_elements(tta))[orders["oof"]],
        outer=tables["outer"].mean(tta_elements(tta))[orders["outer"]],
    )
