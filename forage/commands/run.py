"""Commands of an existing run directory: `forage resume`, `forage status`, `forage gc`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from rich.table import Table

from forage.commands.conclude import conclude
from forage.python_api import functions as api
from forage.python_api.options import ResumeOptions
from forage.results.summary import summary_line
from forage.terminal.messages import print_json, show, show_table
from forage.terminal.options import (
    BUDGET,
    RESOURCES,
    AddressOption,
    CacheLimitOption,
    HoursOption,
    JsonOption,
    KeepOption,
    RunArgument,
    ScoreOption,
    ShipOption,
    TimeoutOption,
    TrackOption,
)
from forage.terminal.words import connect_to, existing_run, parse_trackers
from pasture.errors import InputError
from tune.records.ledger import Ledger, Record

if TYPE_CHECKING:
    from pasture.run_folder import RunFolder


def resume(
    run: RunArgument,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Number of trials in all; more than before extend the sweep.", rich_help_panel=BUDGET),
    ] = None,
    hours: HoursOption = None,
    until_score: ScoreOption = None,
    data: Annotated[Path | None, typer.Option(help="The data folder, if it has moved.")] = None,
    address: AddressOption = "local",
    ship_code: ShipOption = False,
    cpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="CPUs of each trial.", rich_help_panel=RESOURCES)
    ] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(min=0, help="GPUs of each trial.", rich_help_panel=RESOURCES)
    ] = None,
    gpus_per_fold: Annotated[
        int | None, typer.Option(min=1, help="GPUs that train one fold together.", rich_help_panel=RESOURCES)
    ] = None,
    trial_timeout: TimeoutOption = None,
    max_failures: Annotated[
        int | None,
        typer.Option(
            help="How often the worker of one trial may die before the trial has failed.", rich_help_panel=BUDGET
        ),
    ] = None,
    confirm: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Train the best N recipes again with other seeds and folds.",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    keep: KeepOption = None,
    track: TrackOption = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run failed trials again, from their beginning.")
    ] = False,
    cache_limit: CacheLimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Resume a sweep that was stopped, or extend one that has ended. Ended trials do not run again.

    Options that are not given keep their values. A run directory that you did not write is safe to resume: it holds
    data and no code (JSON, YAML, Parquet, safetensors, and checkpoints that are read with weights_only).
    """
    changes: ResumeOptions = {
        "trials": trials, "hours": hours, "until_score": until_score, "data": str(data) if data else None,
        "cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial, "gpus_per_fold": gpus_per_fold,
        "trial_timeout": trial_timeout, "max_failures": max_failures, "confirm": confirm, "keep": keep,
        "track": parse_trackers(track),
    }  # fmt: skip
    conclude(
        lambda: api.resume(
            run, retry_failed=retry_failed, connection=lambda: connect_to(address, ship_code), **changes
        ),
        as_json,
    )


def status(
    run: RunArgument,
    trial: Annotated[
        str | None, typer.Option(metavar="TRIAL", help="Show one trial: its recipe, its epochs and its error.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the state of a sweep, also while it runs, or the members of an import."""
    swept = api.load_run(run)
    if trial and not swept.folder.external:
        _trial_status(swept.folder, Ledger(swept.folder), trial, as_json)
        return
    state = swept.status()
    if as_json:
        print_json(state)
    elif swept.folder.external:
        show(f"{run}: {state['imported']} imported member(s); best {state['best_score']:.4f} by {state['best_trial']}")
    else:
        show(summary_line(swept.path, state))
        disk = f"{state['bytes'] / 1e6:.1f} MB on disk, {state['weights_bytes'] / 1e6:.1f} of them weights"
        show(f"trials have computed for {timedelta(seconds=round(state['seconds']))}; {disk}")
        ended = state["complete"] + state["pruned"] + state["failed"]
        if state["at_work"]:
            show("a process runs this sweep now")
        elif state["at_work"] is False and ended < swept.plan.trials + swept.plan.confirm:
            show(f"no process runs this sweep; go on with: forage resume {run}")


def gc(run: RunArgument, keep: KeepOption = None, as_json: JsonOption = False) -> None:
    """Delete what a run no longer needs: leftovers of killed processes and, with --keep, weights of all but the best.

    The OOF of trials that lose their weights moves to `retired/`; blends can no longer use it. Blends that were built
    before have copies of their own.
    """
    folder = existing_run(run)
    from tune.sweep import collect

    freed = collect(folder, keep)
    if as_json:
        print_json({"run": str(folder), "freed_bytes": freed})
    else:
        show(f"{folder}: {freed / 1e6:.1f} MB freed")


def _trial_status(run: RunFolder, ledger: Ledger, name: str, as_json: bool) -> None:
    record = next((record for record in ledger.records.values() if record.name == name), None)
    if record is None:
        known = f"t0000 to {list(ledger.records.values())[-1].name}" if ledger.records else "none yet"
        raise InputError(f"--trial {name}: {run} has no such trial; it has {known}")
    log = f"{name}.log"
    traceback = run.trials.read(log).decode() if run.trials.exists(log) else ""
    if as_json:
        print_json({"trial": record.name, **vars(record), "score": record.score, "traceback": traceback})
        return
    score = "no score yet" if record.score is None else f"score {record.score:.4f}"
    show(f"{record.name}: {record.status.lower()}, {score}, {len(record.curve)} epoch(s), origin: {record.origin}")
    if record.error:
        show(f"error: {record.error}")
    if traceback:
        show(traceback.rstrip())
    if record.curve:
        show_table(_curve(record))
    if record.recipe:  # none if the draw was not a recipe
        show(yaml.safe_dump(record.recipe, sort_keys=False).rstrip())


def _curve(record: Record) -> Table:
    table = Table("epoch", "score of the epoch", "score", "train loss", "seconds")
    for column in table.columns:
        column.justify = "right"
    for report in record.curve:
        loss = report.get("train_loss")
        table.add_row(
            str(report["epoch"]),
            f"{report['epoch_score']:.4f}",
            f"{report['score']:.4f}",
            "-" if loss is None else f"{loss:.4g}",
            f"{report['seconds']:.1f}",
        )
    return table
