"""Commands that look into runs and blends: `forage compare`, `forage trials`, `forage export`, `forage watch`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from forage.terminal.formats import SUFFIXES, TableFormat
from forage.terminal.messages import messages, print_json, say, show, show_table, warn
from forage.terminal.options import JsonOption, RunArgument
from forage.terminal.words import check_output, existing_run
from pasture.errors import InputError


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Run directory, RUN:TRIAL, or blend folder.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    as_json: JsonOption = False,
) -> None:
    """Say whether A is better than B beyond chance: paired over dates, with a 95 % interval.

    Of a run, its best trial is compared; of a blend, its nested predictions.
    """
    from forage.results.compare import compare as run
    from forage.results.compare import read_result

    results = [read_result(location) for location in (first, second)]
    result = run(*results)
    for note in (r.note for r in results if r.note):
        warn(note)
    if as_json:
        print_json(result.to_dict())
        return
    show(f"{result.first_score:.4f}  {result.first}")
    show(f"{result.second_score:.4f}  {result.second}")
    show(result.sentence)


def trials(
    run: RunArgument,
    where: Annotated[
        str, typer.Option(metavar="CONDITIONS", help='Such as "score > 0.6 and head.kind == mlp"; all must hold.')
    ] = "",
    sort: Annotated[str, typer.Option(metavar="COLUMN", help="Largest first; -COLUMN: smallest first.")] = "score",
    columns: Annotated[str, typer.Option(metavar="A,B,..", help="Columns to show.  [default: those that vary]")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the trials of a run, also while the sweep runs: which rows, in which order, with which columns."""
    from forage.results.trial_table import select
    from tune.records.ledger import Ledger

    table = Ledger(existing_run(run)).table()
    if table.empty:
        raise InputError(f"{run}: has no trial yet")
    chosen = select(table, where, sort, [name.strip() for name in columns.split(",") if name.strip()])
    if as_json:
        print_json(json.loads(chosen.to_json(orient="records")))
        return
    shown = Table()
    for name in chosen.columns:
        shown.add_column(name, no_wrap=name == "trial")
    for row in chosen.itertuples(index=False):
        shown.add_row(*(_cell(value) for value in row))
    show_table(shown)
    say(f"{len(chosen)} of {len(table)} trials")


def export(
    run: RunArgument,
    to: Annotated[TableFormat, typer.Option(help="`optuna`: an SQLite storage for optuna-dashboard; or a table.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to write; must not exist.  [default: RUN.db, .csv, ..]")
    ] = None,
) -> None:
    """Write the trials of a run for other tools."""
    from forage.results.export import export as write

    folder = existing_run(run)
    file = out or Path(folder.name + SUFFIXES[to])
    check_output(file, "--out")
    if file.exists():
        raise InputError(f"{file}: exists already; choose another --out, or remove it")
    count = write(folder, to, file)
    hint = f"; open it with: optuna-dashboard sqlite:///{file}" if to == "optuna" else ""
    say(f"{file}: {count} trials{hint}")


def watch(
    run: RunArgument,
    every: Annotated[float, typer.Option(min=0.5, metavar="SECONDS", help="How often the run is read.")] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Print the table once and exit.")] = False,
) -> None:
    """Watch a sweep that another process runs, here or on another machine, until it is over or Ctrl-C."""
    from forage.results.watch import Watched

    watched = Watched(existing_run(run))
    if once or not messages.is_terminal:
        show_table(watched.table())
        return
    with Live(get_renderable=watched.table, console=messages, refresh_per_second=2):
        while not watched.over:
            time.sleep(every)
            watched.read()


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN: no value
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
