"""`forage outer-cv`: what a whole sweep and its blend are worth on dates that neither has seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from forage.terminal.messages import INTERRUPTED, print_json, say, show, show_table
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
from trainables.recipe.sections import TtaName
from tune.records.plan import Limits, Objective, Pruner

if TYPE_CHECKING:
    from forage.outer_cv.compare import Table as Compared
    from forage.outer_cv.strategies import Sweep
    from pasture.dataset import Dataset


def outer_cv(
    data: DataArgument,
    space: SpaceOption = "default",
    trials: Annotated[int, typer.Option(min=1, help="Trials of each sweep.")] = 24,
    splits: Annotated[int, typer.Option(min=2, help="Groups of dates; each is held out of whole sweeps in turn.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="How often dates are divided into groups, and searched.")] = 3,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STRATEGY",
            help="Compare with sweeps of this kind: one-recipe, random, random+asha, optuna+asha, or another space; "
            "repeatable. Each runs as many sweeps again. The start portfolio and all ways to blend are always shown.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FOLDER", help="Folder of the sweeps and of outer-cv.json; what is finished there is not run again."
        ),
    ] = Path("outer-cv"),
    pruner: Annotated[Pruner, typer.Option(help="Of the judged sweeps, as in `forage sweep`.")] = "asha",
    objective: Annotated[Objective, typer.Option(help="Of the judged sweeps, as in `forage sweep`.")] = "score",
    epochs: EpochsOption = None,
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = None,
    tta: Annotated[TtaName, typer.Option(help="Test-time augmentation of the predictions.")] = "d4",
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score whole procedures on dates that no part of them has seen: search, choice of epochs, choice of members.

    For every group of dates a sweep runs without it, its trials are blended, and the blends predict the group. The
    table shows R2 over all dates, for every strategy, and what `forage ensemble` would have quoted.
    """
    from forage.outer_cv.strategies import sweeps
    from pasture.dataset import read_train
    from search_spaces.catalogue import load_space

    dataset = read_train(data)
    limits = Limits(
        trials=trials,
        pruner=pruner,
        objective=objective,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    kinds = sweeps(override(load_space(space), settings, epochs), limits, against or [])
    table = _measure(dataset, kinds, splits, seeds, out, tta)
    if as_json:
        print_json(table.to_dict())
    else:
        _print(table)


def _measure(dataset: Dataset, kinds: Sequence[Sweep], splits: int, seeds: int, out: Path, tta: TtaName) -> Compared:
    """Run the sweeps that are not finished, score their blends, and compare them."""
    from forage.outer_cv.dates import deal_dates

    groups = [deal_dates(dataset, splits, seed) for seed in range(seeds)]
    # torch and Ray take seconds to import: only once the options are known to be right.
    from ensemble.estimate.outer_score import NAME
    from forage.outer_cv.compare import compare
    from forage.outer_cv.run_sweeps import Stopped, run_sweeps
    from forage.outer_cv.score_blends import score_sweep
    from pasture.files import Folder

    try:
        scored = [score_sweep(run, dataset, tta) for run in run_sweeps(out, dataset, kinds, groups, say)]
    except Stopped:
        say(f"stopped; the same command goes on from {out}")
        raise typer.Exit(INTERRUPTED) from None
    table = compare(scored, dataset)
    dates = sorted({str(date) for date in dataset.dates[dataset.scored]})
    Folder.at(out).write(NAME, json.dumps({**table.to_dict(), "date_names": dates}, indent=2).encode())
    return table


def _print(table: Compared) -> None:
    title = (
        f"R2 on {table.images} photographs of {table.dates} dates, each held out of whole sweeps "
        f"({table.splits} groups, {table.seeds} seed(s)); errors are standard errors over dates"
    )
    grid = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    names = ("strategy", "outer R2", "error", "sd of seeds", "difference", "error", "nested", "nested-outer", "seconds")
    for name in names:
        grid.add_column(name, justify="left" if name == "strategy" else "right", no_wrap=True)
    for row in table.rows:
        reference = row is table.rows[0]
        grid.add_row(
            escape(row.strategy),
            _number(row.outer),
            _number(row.error),
            _number(row.seeds),
            "reference" if reference else f"{row.difference:+.4f}",
            "" if reference else _number(row.difference_error),
            _number(row.nested),
            "-" if row.optimism is None else f"{row.optimism:+.4f}",
            f"{row.seconds:.0f}",
        )
    show_table(grid)
    if table.interval:
        low, high = table.interval
        show(
            f"the 95 % interval that `forage ensemble` quotes for {table.rows[0].strategy} is {low:.4f} to {high:.4f} "
            f"on average; the outer score is {'inside' if table.agrees else 'outside'}"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
