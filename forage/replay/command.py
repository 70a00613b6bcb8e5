"""`forage tabulate`: a table of trained recipes, from which sweeps can be replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forage.terminal.messages import INTERRUPTED, print_json, say, show
from forage.terminal.options import (
    CpusOption,
    DataArgument,
    EpochsOption,
    GpusOption,
    JsonOption,
    SetOption,
    SpaceOption,
)
from forage.terminal.words import override
from pasture.errors import InputError
from tune.records.plan import Limits


def tabulate(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="TABLE", help="Parquet file to write; must not exist.")],
    space: SpaceOption = "default",
    recipes: Annotated[int, typer.Option(min=2, help="Recipes: the start portfolio, then random draws.")] = 500,
    splits: Annotated[int, typer.Option(min=2, help="Groups of dates; each is held out of all recipes in turn.")] = 4,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of the sweeps; what is finished there is not run again.  [default: TABLE with .runs]",
        ),
    ] = None,
    epochs: EpochsOption = None,
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train recipes whole, without each group of dates, and keep their curves and predictions in one table.

    `python -m benchmarks.replay` replays sweeps from it: the searcher and the pruner decide as on Ray, and a sweep
    takes seconds.
    """
    from pasture.dataset import read_train
    from search_spaces.catalogue import load_space

    if out.exists():
        raise InputError(f"{out}: exists already; choose another --out, or remove it")
    dataset = read_train(data)
    chosen = override(load_space(space), settings, epochs)
    limits = Limits(trials=recipes, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial)
    from forage.outer_cv.run_sweeps import Stopped
    from forage.replay.build import tabulate as build

    folder = runs or out.with_suffix(".runs")
    try:
        table = build(dataset, chosen, limits, splits, folder, say)
    except Stopped:
        say(f"stopped; the same command continues from {folder}")
        raise typer.Exit(INTERRUPTED) from None
    table.write(out)
    trained = sum(content is not None for split in table.splits for content in split.trained)
    summary = {"table": str(out), "recipes": len(table.entries), "splits": len(table.splits), "trained": trained}
    if as_json:
        print_json(summary)
    else:
        show(f"{out}: {len(table.entries)} recipes on {len(table.splits)} splits, {trained} trained to the end")
