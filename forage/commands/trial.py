"""Commands that look into runs and blends: `forage compare`, `forage trials`, `forage export`, `forage watch`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.live import Live
from rich.table import Table

from forage.terminal.choices import SUFFIXES, Against, ExportFormat
from forage.terminal.messages import messages, print_json, say, show, show_table, warn
from forage.terminal.options import JsonOption, RunArgument
from forage.terminal.words import check_output, check_output_folder, existing_run
from pasture.errors import InputError


def compare(
    results: Annotated[
        list[str], typer.Argument(metavar="A B [C]...", help="Run directories, RUN:TRIAL, or blend folders.")
    ],
    against: Annotated[
        Against, typer.Option(help="Compare the others with the `first`, or with the `best` of them.")
    ] = "first",
    as_json: JsonOption = False,
) -> None:
    """Say which results differ beyond chance: paired over dates, with a 95 % interval for each comparison.

    A run stands for its best trial, a blend for its nested predictions. Scores are on the images that all results have,
    with test-time augmentation (`inference.tta`); those of `forage status` are without.
    """
    from forage.results.compare import compare as run
    from forage.results.compare import read_result, remark

    if len(results) < 2:
        raise InputError(f"{results[0]}: nothing to compare it with; give two results or more")
    if twice := [location for i, location in enumerate(results) if location in results[:i]]:
        raise InputError(f"{twice[0]}: is given twice; compare different results")
    read = [read_result(location) for location in results]
    found = run(read, against)
    for note in (result.note for result in read if result.note):
        warn(note)
    first = found[0]
    if as_json:
        facts = {"against": first.first, "score": first.first_score, "images": first.images, "dates": first.dates}
        print_json({**facts, "comparisons": [comparison.to_dict() for comparison in found]})
        return
    show(f"{first.first_score:.4f}  {first.first}")
    for comparison in found:
        show(f"{comparison.second_score:.4f}  {comparison.second}")
    for comparison in found:
        show(comparison.sentence)
    if text := remark(found, against):
        show(text)


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
    to: Annotated[
        ExportFormat,
        typer.Option(
            help="`optuna`: an SQLite storage for optuna-dashboard; `csv`, `parquet`: a table; `mlflow`, "
            "`tensorboard`: as `forage sweep --track`."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="File to write; must not exist. For `mlflow` and `tensorboard` a folder.  [default: RUN.db, .csv, ..; "
            "for `mlflow` $MLFLOW_TRACKING_URI; else RUN/trackers]",
        ),
    ] = None,
) -> None:
    """Write the trials of a run for other tools."""
    from forage.results.export import export as write
    from forage.results.export import export_to_tracker

    folder = existing_run(run)
    if to == "mlflow" or to == "tensorboard":
        check_output_folder(out, "--out")
        place, count = export_to_tracker(folder, to, out)
        show_with = "mlflow ui --backend-store-uri" if to == "mlflow" else "tensorboard --logdir"
        say(f"{place}: {count} trials; open it with: {show_with} {place}")
        return
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
