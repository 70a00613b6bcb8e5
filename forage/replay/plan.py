"""`forage plan`: what a sweep will reach and cost, before it runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from forage.terminal.messages import print_json, show, show_table, warn
from forage.terminal.options import JsonOption, RunsOption
from pasture.errors import InputError

if TYPE_CHECKING:
    from forage.replay.forecast import Forecast, Range, Recorded
    from search_spaces.space import Space


def plan(
    space: Annotated[
        str | None,
        typer.Option(help="A shipped search space or a YAML file.  [default: that of --run, else `default`]"),
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Where recorded trials come from: a run directory, or a table of `forage tabulate`.  "
            "[default: all runs of the space in --runs]",
        ),
    ] = None,
    runs: RunsOption = "runs",
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 2,
    hours: Annotated[float | None, typer.Option(min=0.001, help="Length of the sweep.")] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials.  [default: as many as the time allows]")
    ] = None,
    gpus_per_trial: Annotated[float, typer.Option(min=0, help="GPUs of each trial, to count GPU hours.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Forecast a sweep from recorded trials: trials ended and pruned, best score by time, seconds a trial, GPU hours.

    The scores are out-of-fold scores, which rise with every trial that is tried; what a blend is worth on new dates is
    measured by `forage outer-cv`.
    """
    from forage.replay.forecast import forecast

    recorded, starts, source = _recorded(space, run, runs)
    made = forecast(recorded, workers, hours, trials, starts)
    if made.workers < workers:
        warn(
            f"trials of {made.seconds.mean:.1f} s: one driver keeps about {made.workers} of {workers} workers busy "
            "(docs/reference/benchmarks.md); the forecast is for these"
        )
    if as_json:
        print_json({**made.to_dict(), "source": source, "gpu_hours": gpus_per_trial * made.worker_hours.mean})
    else:
        _print(made, source, gpus_per_trial)


def _recorded(space: str | None, run: str | None, runs: str) -> tuple[list[Recorded], int, str]:
    """Recorded trials, the number of start recipes of their space, and where they come from in words."""
    from forage.replay.forecast import recorded_in_run, recorded_in_table
    from forage.replay.table import Table as Tabulated
    from forage.terminal.words import existing_run
    from search_spaces.catalogue import load_space
    from search_spaces.space import Space
    from tune.records.ledger import Ledger
    from tune.records.plan import Plan

    wanted = load_space(space) if space else None
    if run and Path(run).is_file():
        table = Tabulated.read(Path(run))
        _check_space(table.space, wanted, run, space)
        return recorded_in_table(table), sum(entry.start for entry in table.entries), run
    if run:
        folder = existing_run(run)
        own = Space.parse(Plan.read(folder).space, str(folder))
        _check_space(own, wanted, run, space)
        recorded = recorded_in_run(Ledger(folder))
        if not recorded:
            raise InputError(f"{run}: no trial has ended; run `forage resume {run}` first, or give another --run")
        return recorded, len(own.start), run
    wanted = wanted or load_space("default")
    found = []
    for path in sorted(Path(runs).glob("*/sweep.yaml")):
        folder = existing_run(str(path.parent))
        if Space.parse(Plan.read(folder).space, str(folder)).to_dict() == wanted.to_dict():
            found += recorded_in_run(Ledger(folder))
    if not found:
        raise InputError(
            f"{runs}: no run has recorded trials of the space {space or 'default'}; make some with `forage sweep DATA "
            f"--space {space or 'default'} --trials 24`, or give --run RUN, a run directory or a table"
        )
    return found, len(wanted.start), f"runs of {space or 'default'} in {runs}"


def _check_space(own: Space, wanted: Space | None, run: str, name: str | None) -> None:
    if wanted is not None and own.to_dict() != wanted.to_dict():
        raise InputError(f"--run {run}: its trials are of another space than --space {name}; leave --space out")


def _print(made: Forecast, source: str, gpus: float) -> None:
    grid = Table(
        title=f"a sweep on {made.workers} worker(s), from {made.recorded} recorded trials of {source}; 95 % intervals",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for name in ("h:mm:ss", "trials ended", "pruned", "best score"):
        grid.add_column(name, justify="right", no_wrap=True)
    for moment in made.moments:
        grid.add_row(_time(moment.hours), _range(moment.ended, 0), _range(moment.pruned, 0), _range(moment.best, 4))
    show_table(grid)
    show(f"seconds a trial: {_range(made.seconds, 1)}")
    hours = made.worker_hours
    show(f"worker hours: {_range(hours, 2)}" + (f"; GPU hours: {gpus * hours.mean:.2f}" if gpus else ""))
    show(f"the best recorded score is {made.best_recorded:.4f}: a longer sweep may find better, the forecast cannot")


def _time(hours: float) -> str:
    seconds = round(3600 * hours)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _range(value: Range, digits: int) -> str:
    if math.isnan(value.mean):
        return "-"
    return f"{value.mean:,.{digits}f} ({value.low:,.{digits}f} to {value.high:,.{digits}f})"
