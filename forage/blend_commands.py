"""Commands for what comes before and after a blend: members from other tools, and members trained on all data."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from forage.messages import print_json, say, warn
from forage.options import DataArgument, JsonOption, NameOption, RunsOption


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="OOF predictions: CSV, Parquet or .npy.")],
    truth: Annotated[Path, typer.Option(metavar="CSV", help="train.csv; its pictures need not be there.")],
    name: NameOption = "",
    runs: RunsOption = "runs",
    ids: Annotated[Path | None, typer.Option(metavar="FILE", help="For .npy: the image id of each row.")] = None,
    columns: Annotated[str, typer.Option(metavar="A,B,..", help="For .npy: the target of each column.")] = "",
    folds: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV or Parquet with image_id and fold, where known.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a run directory from out-of-fold predictions of other tools, a file a member; `forage ensemble` blends it.

    CSV and Parquet have image_id and the five target columns (or sample_id and target, as a submission has). Rows are
    joined by image id. Files whose rows or columns are clearly those of other images or targets are refused.
    """
    from ensemble.importing import import_members
    from forage.cli import new_run

    run = new_run(runs, name or f"imported-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    names = [column.strip() for column in columns.split(",")] if columns else None
    members = import_members(files, truth, run, ids, names, folds)
    for member in members:
        if member.missing:
            warn(f"{member.trial}: its file lacks {member.missing} image(s) of the truth")
    if as_json:
        print_json({"run": str(run), "members": [asdict(member) for member in members]})
        return
    for member in members:
        say(f"{member.score:.4f}  {member.trial}")
    say(f"{run}: {len(members)} member(s); blend them with: forage ensemble {run} --out blend")


def refit(
    blend: Annotated[Path, typer.Argument(metavar="BLEND", help="Blend folder that `forage ensemble` wrote.")],
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="BLEND", help="Blend folder to write; must not exist.")],
) -> None:
    """Train each member of a blend anew on all photographs, one model in place of those of its folds.

    Prediction is then as many times faster as there were folds, and every model has seen every photograph; but nothing
    is left to score them on, and the mean over folds is lost. docs/ensemble.md says which to prefer when.
    """
    from ensemble.blend import Blend
    from ensemble.refit import refit as run

    made = run(Blend.read(blend), data, out, say)
    for warning in made.warnings:
        warn(warning)
    say(f"blend: {out}")
