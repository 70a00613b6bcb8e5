"""Commands of a blend: members from other tools, building it, predicting, what can be made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ensemble.weighting.options import DEFAULT_METHOD
from forage.python_api import functions as api
from forage.python_api.blend import Blend, write_submission
from forage.python_api.options import Selection
from forage.python_api.run import as_folder
from forage.terminal.blend_options import (
    GivenOption,
    HalfOption,
    HeaviestOption,
    MapsOption,
    MembersFileOption,
    RefitDataOption,
    RefitOption,
    SecondsOption,
    TimeOption,
    UncertaintyOption,
)
from forage.terminal.messages import print_json, say, show, show_table, warn
from forage.terminal.options import (
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
from forage.terminal.words import check_output, check_output_folder, parse_given
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
    refit: RefitOption = None,
    data: RefitDataOption = None,
    half: HalfOption = False,
    timed: TimeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build a blend from the trials of one or several runs, and estimate its score on dates it was not fitted to."""
    from forage.blending.limits import after_build, prefix_table
    from forage.pages.report import attempt
    from forage.terminal.tables import blend_table

    options: Selection = {
        "steps": steps, "warm_start": warm_start, "bags": bags, "max_members": max_members,
        "max_backbones": max_backbones, "min_gain": min_gain, "min_weight": min_weight,
    }  # fmt: skip
    blend = api.build(runs, out, tta=tta, method=method, scale_targets=scale, refit=False, **options)
    for warning in blend.warnings:
        warn(warning)
    for key, reason in blend.refused:
        warn(f"{key} left out: {reason}")
    if refit is not False:
        blend = blend.refit_members(runs, data, all_members=bool(refit))
    blend = Blend(after_build(blend.content, [as_folder(run) for run in runs], data, half, timed))
    if as_json:
        print_json(blend.scores)
    else:
        show_table(blend_table(blend.content))
        if timed:
            show_table(prefix_table(blend.content))
    attempt(lambda: blend.write_report(data), say)
    say(f"blend: {out}")


def predict(
    blend: BlendArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Submission to write.")],
    tta: Annotated[TtaName | None, typer.Option(help="Test-time augmentation; the blend's own by default.")] = None,
    members: MembersFileOption = None,
    uncertainty: UncertaintyOption = None,
    maps: MapsOption = None,
    given: GivenOption = None,
    max_members: HeaviestOption = None,
    max_seconds: SecondsOption = None,
) -> None:
    """Predict the test photographs of a data folder; needs neither the run, nor Ray, nor the internet.

    All GPUs of the machine share the photographs.
    """
    from pasture.data_table import read_sample_submission
    from pasture.dataset import read_test

    for file, option in ((out, "--out"), (members, "--members"), (uncertainty, "--uncertainty")):
        check_output(file, option)
    check_output_folder(maps, "--maps")
    test = read_test(data)
    rows = len(read_sample_submission(data, test.ids))  # refused before anything is predicted
    known: dict[str, str | Path] = {**parse_given(given or [])}
    predictions = api.load_blend(blend).predict(
        test, tta=tta, given=known, max_members=max_members, max_seconds=max_seconds,
        members=members, uncertainty=uncertainty, maps=maps,
    )  # fmt: skip
    write_submission(out, predictions, data)
    say(f"{out}: {rows} rows for {len(test)} photographs")


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
    names = [column.strip() for column in columns.split(",")] if columns else None
    run = api.import_members(files, truth, name=name, runs=runs, ids=ids, columns=names, folds=folds)
    members = run.trials.to_dict(orient="records")
    for member in members:
        if member["missing"]:
            warn(f"{member['trial']}: its file lacks {member['missing']} image(s) of the truth")
    if as_json:
        print_json({"run": run.path, "members": members})
        return
    for member in members:
        show(f"{member['score']:.4f}  {member['trial']}")
    say(f"{run.path}: {len(members)} member(s); blend them with: forage ensemble {run.path} --out blend")


def refit(
    blend: BlendArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="BLEND", help="Blend folder to write; must not exist.")],
) -> None:
    """Train each member of a blend again on all photographs: one model instead of one for each fold.

    Prediction is then as many times faster as there were folds, and every model has seen every photograph. But no
    photograph is left to score the models on, and the mean over folds is lost. See docs/explanation/blends.md.
    """
    made = api.load_blend(blend).refit(data, out)
    for warning in made.warnings:
        warn(warning)
    say(f"blend: {out}")


def pseudo(
    blend: BlendArgument,
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Data folder to make; must not exist.")],
    weight: Annotated[float, typer.Option(help="Weight of a pseudo-label; that of a measured image is 1.")] = 0.5,
    cross_fit: Annotated[
        bool,
        typer.Option("--cross-fit", help="Label for each fold with models that have not seen it: scores stay honest."),
    ] = False,
    rounds: Annotated[
        int, typer.Option(help="With --cross-fit: how often labels are made; members are trained on them in between.")
    ] = 1,
) -> None:
    """Make a data folder that adds the test photographs to the labelled ones, with the blend's predictions as targets.

    Models train on them with a weight; they are never held out. With --cross-fit, the model of a fold learns from
    labels of models that have not seen that fold either, and less where members disagree. Without it,
    scores of models trained on the folder are too high: the blend has seen the labels of all folds, and its predictions
    carry them into every fold. Such a folder is for a last refit.
    """
    from forage.blending.pseudo import LEAK

    count = api.load_blend(blend).pseudo_label(data, out, weight=weight, cross_fit=cross_fit, rounds=rounds)
    if cross_fit:
        say(f"{out}: the data of {data} and {count} photographs, labelled for each fold with weights up to {weight:g}")
        return
    say(f"{out}: the data of {data} and {count} photographs with pseudo-labels of weight {weight:g}")
    warn(LEAK)
