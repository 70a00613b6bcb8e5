"""Commands of a blend: members from other tools, building it, predicting, what can be made of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ensemble.weighting.options import DEFAULT_METHOD, Options
from forage.bars import bars
from forage.messages import print_json, say, show, show_table, warn
from forage.options import (
    BagsOption,
    BlendArgument,
    DataArgument,
    JsonOption,
    MaxBackbonesOption,
    MaxMembersOption,
    MethodOption,
    MinGainOption,
    MinWeightOption,
    NameOption,
    RunsOption,
    ScaleOption,
    StepsOption,
    TtaOption,
    WarmStartOption,
)
from forage.words import check_output, existing_run, new_run, parse_given
from trainables.recipe.sections import TtaName


def ensemble(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories.")],
    out: Annotated[Path, typer.Option(metavar="BLEND", help="Blend folder to write; must not exist.")],
    tta: TtaOption = "d4",
    method: MethodOption = DEFAULT_METHOD,
    max_members: MaxMembersOption = None,
    max_backbones: MaxBackbonesOption = None,
    min_weight: MinWeightOption = 0.0,
    min_gain: MinGainOption = None,
    bags: BagsOption = 0,
    warm_start: WarmStartOption = 0,
    steps: StepsOption = 200,
    scale: ScaleOption = False,
    refit: Annotated[
        bool | None,
        typer.Option(
            "--refit/--no-refit",
            help="Whether members are trained again on all photographs, one model in place of those of the folds. "
            "By default those on frozen backbones are.",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="Data folder to train them on, if it has moved since the sweep.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Build a blend from the trials of one or several runs, and estimate its score on dates it was not fitted to."""
    from ensemble.blend.build import build
    from forage.pages.report import attempt, write_blend_report
    from forage.refit_members import refit_members
    from forage.tables import blend_table

    folders = [existing_run(run) for run in runs]
    options = Options(
        steps=steps,
        warm_start=warm_start,
        bags=bags,
        max_members=max_members,
        max_backbones=max_backbones,
        min_gain=min_gain,
        min_weight=min_weight,
    )
    blend = build(folders, out, tta, method, options, scale)
    if as_json:
        print_json(blend.scores())
    else:
        show_table(blend_table(blend))
    for warning in blend.warnings:
        warn(warning)
    for key, reason in blend.evidence.refused if blend.evidence else []:
        warn(f"{key} left out: {reason}")
    if refit is not False:
        blend = refit_members(blend, folders, data, bool(refit))
    attempt(lambda: write_blend_report(blend, data=str(data or "")), say)
    say(f"blend: {out}")


def predict(
    blend: BlendArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Submission to write.")],
    tta: Annotated[TtaName | None, typer.Option(help="Test-time augmentation; the blend's own by default.")] = None,
    members: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write each member's predictions.")] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write spreads and 90 % intervals for every target."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MEMBER=FILE", help="Predictions of an imported member for these photographs; repeatable."
        ),
    ] = None,
) -> None:
    """Predict the test photographs of a data folder; needs neither the run, nor Ray, nor the internet."""
    from ensemble.blend.blend import Blend
    from ensemble.blend.predict import predict as run
    from ensemble.blend.submission import write_submission
    from ensemble.blend.uncertainty import predict_in_detail, write_members, write_uncertainty
    from ensemble.members.prediction_file import read_given
    from pasture.data_table import read_sample_submission
    from pasture.dataset import read_test

    for file, option in ((out, "--out"), (members, "--members"), (uncertainty, "--uncertainty")):
        check_output(file, option)
    test = read_test(data)
    order = read_sample_submission(data, test.ids)
    loaded = Blend.read(blend)
    known = read_given(parse_given(given or []), test.ids)
    with bars() as watch:
        if members or uncertainty:
            detail = predict_in_detail(loaded, test, tta, known, watch)
            predictions = detail.predictions
        else:
            predictions = run(loaded, test, tta, known, watch)
    if members:
        write_members(members, loaded, test.ids, detail)
    if uncertainty:
        write_uncertainty(uncertainty, loaded, test.ids, detail)
        if loaded.conformal is None:
            warn("no intervals: the blend was judged on fewer than 9 dates")
    write_submission(out, order, test.ids, predictions)
    say(f"{out}: {len(order)} rows for {len(test)} photographs")


def import_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="OOF predictions: CSV, Parquet, .npy, .npz.")],
    truth: Annotated[Path, typer.Option(metavar="CSV", help="train.csv; its pictures need not be there.")],
    name: NameOption = "",
    runs: RunsOption = "runs",
    ids: Annotated[Path | None, typer.Option(metavar="FILE", help="For arrays: the image id of each row.")] = None,
    columns: Annotated[str, typer.Option(metavar="A,B,..", help="For arrays: the target of each column.")] = "",
    folds: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV or Parquet with image_id and fold, where known.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a run directory from out-of-fold predictions of other tools, one file for each member.

    `forage ensemble` blends it. CSV and Parquet have image_id and the five target columns (or sample_id and target, as
    a submission has). Arrays are images x 5, or members x images x 5; a .npz may hold its ids and columns. Rows are
    joined by image id. Files whose rows or columns clearly belong to other images or targets are refused.
    """
    from ensemble.members.external import import_members

    run = new_run(runs, name or f"imported-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    names = [column.strip() for column in columns.split(",")] if columns else None
    members = import_members(files, truth, run, ids, names, folds)
    facts = [{name: member.metadata[name] for name in ("trial", "score", "missing")} for member in members]
    for fact in facts:
        if fact["missing"]:
            warn(f"{fact['trial']}: its file lacks {fact['missing']} image(s) of the truth")
    if as_json:
        print_json({"run": str(run), "members": facts})
        return
    for fact in facts:
        show(f"{fact['score']:.4f}  {fact['trial']}")
    say(f"{run}: {len(members)} member(s); blend them with: forage ensemble {run} --out blend")


def refit(
    blend: BlendArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="BLEND", help="Blend folder to write; must not exist.")],
) -> None:
    """Train each member of a blend again on all photographs: one model instead of one for each fold.

    Prediction is then as many times faster as there were folds, and every model has seen every photograph. But no
    photograph is left to score the models on, and the mean over folds is lost. See docs/ensemble.md.
    """
    from ensemble.blend.blend import Blend
    from ensemble.blend.refit import refit as run

    made = run(Blend.read(blend), data, out, say)
    for warning in made.warnings:
        warn(warning)
    say(f"blend: {out}")


def pseudo(
    blend: BlendArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Data folder to make; must not exist.")],
    weight: Annotated[float, typer.Option(help="Weight of a pseudo-label; that of a measured image is 1.")] = 0.5,
) -> None:
    """Make a data folder that adds the test photographs to the labelled ones, with the blend's predictions as targets.

    Models train on them with a weight; they are never held out. Scores of models trained on such a folder are still too
    high: the blend has seen the labels of all folds, and its predictions carry them into every fold. Compare such
    models on the leaderboard or on a hidden truth.
    """
    from ensemble.blend.blend import Blend
    from forage.pseudo import LEAK, write_pseudo

    count = write_pseudo(Blend.read(blend), data, out, weight)
    say(f"{out}: the data of {data} and {count} photographs with pseudo-labels of weight {weight:g}")
    warn(LEAK)
