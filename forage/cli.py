"""The command line. Each command is thin: it turns words into arguments, and results into text or JSON."""

from __future__ import annotations

import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from forage import blend_commands
from forage.bars import bars
from forage.features import features
from forage.messages import messages, print_json, say, warn
from forage.options import (
    AddressOption,
    BagsOption,
    CacheLimitOption,
    CpusOption,
    DataArgument,
    EpochsOption,
    FailuresOption,
    GpusOption,
    HoursOption,
    JsonOption,
    KeepOption,
    MaxBackbonesOption,
    MaxMembersOption,
    MethodChoice,
    MethodOption,
    MinGainOption,
    MinWeightOption,
    NameOption,
    RunArgument,
    RunsOption,
    ScaleOption,
    ScoreOption,
    SearchName,
    SetOption,
    StepsOption,
    TimeoutOption,
    TtaChoice,
    WarmStartOption,
    parse_given,
    parse_settings,
)
from pasture.errors import ForageError, InputError

app = typer.Typer(
    name="forage",
    help="Hyperparameter search on Ray and honest ensembles for pasture biomass from photographs.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
INTERRUPTED = 130


@app.command("make-data", epilog="Example: `forage make-data data/synthetic --images 48`")
def make_data(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; must not exist.")],
    images: Annotated[int, typer.Option(help="Labelled photographs; a quarter as many more come without labels.")] = 64,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
) -> None:
    """Draw synthetic paddocks whose pixels determine the weights, in the competition's layout."""
    from pasture.synthetic import make_data as draw

    draw(out, images, seed=seed)
    say(f"{out}: {images} labelled photographs; the truth of the test photographs is in {out / 'hidden_truth.csv'}")


@app.command(epilog="Example: `forage check data/csiro`")
def check(data: DataArgument, as_json: JsonOption = False) -> None:
    """Read a data folder whole, every picture too, and say what is in it or what is wrong with it."""
    from pasture.dataset import read_test, read_train, verify_pictures

    train = read_train(data)
    fingerprint = verify_pictures(train)
    result: dict[str, Any] = {
        "images": int(train.measured.sum()),
        "dates": len(set(train.dates[train.measured])),
        "baseline": train.baseline(),
        "fingerprint": fingerprint,
        "pseudo_images": int((~train.measured).sum()),
        "test_images": None,
    }
    if (data / "test.csv").exists():
        test = read_test(data)
        verify_pictures(test)
        result["test_images"] = len(test)
    if as_json:
        print_json(result)
        return
    say(f"{data}: {result['images']} labelled photographs on {result['dates']} dates, all readable")
    if result["pseudo_images"]:
        say(f"{result['pseudo_images']} photographs with pseudo-labels, trained on but never held out, all readable")
    if result["test_images"] is not None:
        say(f"{result['test_images']} test photographs, all readable")
    say(f"predicting each target's mean scores {result['baseline']:.4f}")
    say(f"fingerprint {fingerprint}")


@app.command(epilog="Example: `forage sweep data/csiro --trials 24 --set schedule.epochs=40`")
def sweep(
    data: DataArgument,
    name: NameOption = "",
    runs: RunsOption = "runs",
    space: Annotated[str, typer.Option(help="A shipped search space or a YAML file.")] = "default",
    trials: Annotated[int, typer.Option(min=1, help="How many trials.")] = 24,
    hours: HoursOption = None,
    until_score: ScoreOption = None,
    epochs: EpochsOption = None,
    search: Annotated[SearchName, typer.Option(help="How trials are proposed.")] = SearchName.optuna,
    address: AddressOption = "local",
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = None,
    trial_timeout: TimeoutOption = None,
    max_failures: FailuresOption = 2,
    keep: KeepOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    cache_limit: CacheLimitOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for recipes on Ray, pruning with ASHA. Leaves a run directory that can be resumed and blended."""
    from search_spaces.catalogue import load_space
    from tune.plan import Limits

    limits = Limits(
        trials=trials,
        hours=hours,
        until_score=until_score,
        trial_timeout=trial_timeout,
        max_failures=max_failures,
        keep=keep,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    chosen = override(load_space(space), settings, epochs)
    run = new_run(runs, name or f"{Path(space).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    from tune.sweep import launch  # torch and Ray take seconds to import: not before the words are known to be right

    conclude(launch(run, data, chosen, limits, search=search.value, seed=seed, address=address), as_json)


@app.command(epilog="Example: `forage train data/csiro --recipe feature_ridge`")
def train(
    data: DataArgument,
    recipe: Annotated[str, typer.Option(help="A shipped recipe (`forage recipes`) or a YAML file.")],
    name: NameOption = "",
    runs: RunsOption = "runs",
    epochs: EpochsOption = None,
    address: AddressOption = "local",
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = None,
    cache_limit: CacheLimitOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one recipe on all its folds, without a search. Leaves a run directory like a sweep's, of one trial."""
    from search_spaces.catalogue import load_recipe
    from search_spaces.space import Space
    from tune.plan import Limits

    limits = Limits(trials=1, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial)
    chosen = override(Space(load_recipe(recipe), (), {}), settings, epochs)
    run = new_run(runs, name or f"{Path(recipe).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    from tune.sweep import launch

    conclude(launch(run, data, chosen, limits, search="random", address=address), as_json)


recipes = typer.Typer(help="List the shipped recipes, or print one.", rich_markup_mode="markdown")
app.add_typer(recipes, name="recipes")
app.add_typer(features, name="features")


@recipes.callback(invoke_without_command=True, epilog="Example: `forage recipes`")
def list_recipes(context: typer.Context) -> None:
    """List the shipped recipes, a line each."""
    if context.invoked_subcommand is None:
        from search_spaces.catalogue import describe_recipe, recipe_names

        for name in recipe_names():
            sys.stdout.write(f"{name:28} {describe_recipe(name)}\n")


@recipes.command("show", epilog="Example: `forage recipes show two_stream > my_recipe.yaml`")
def show_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe or a YAML file.")],
) -> None:
    """Print every field of a recipe as YAML."""
    from search_spaces.catalogue import load_recipe

    sys.stdout.write(load_recipe(name).to_yaml())


@app.command(epilog="Example: `forage resume runs/default-20261121-093000 --trials 100`")
def resume(
    run: RunArgument,
    trials: Annotated[int | None, typer.Option(min=1, help="How many trials in all: more extend the sweep.")] = None,
    hours: HoursOption = None,
    until_score: ScoreOption = None,
    data: Annotated[Path | None, typer.Option(help="Where the data folder is now, if it has moved.")] = None,
    address: AddressOption = "local",
    cpus_per_trial: Annotated[float | None, typer.Option(min=0, help="CPUs each trial asks for.")] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(min=0, help="GPUs each trial asks for.")] = None,
    trial_timeout: TimeoutOption = None,
    max_failures: Annotated[
        int | None, typer.Option(help="How often the worker of one trial may die before the trial has failed.")
    ] = None,
    keep: KeepOption = None,
    cache_limit: CacheLimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a sweep that was stopped, by whatever, or extend one that has ended. No ended trial runs again.

    What is not given stays as it was. A run directory from somebody else is data, not code: JSON, YAML, Parquet,
    safetensors, and checkpoints that are read with weights_only.
    """
    from pasture.run_folder import RunFolder
    from tune.sweep import resume as go_on

    given = {
        "trials": trials,
        "hours": hours,
        "until_score": until_score,
        "data": str(data) if data else None,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "trial_timeout": trial_timeout,
        "max_failures": max_failures,
        "keep": keep,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    conclude(go_on(RunFolder(run), address, changes), as_json)


@app.command(epilog="Example: `forage status runs/default-20261121-093000 --json`")
def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """How far a sweep has come; also while it runs."""
    from pasture.run_folder import RunFolder
    from tune.ledger import Ledger
    from tune.plan import Plan

    folder = RunFolder(run)
    plan = Plan.read(folder)
    ledger = Ledger(folder)
    sizes = folder.folder.sizes()
    effort = {
        "seconds": sum(report["seconds"] for record in ledger.records.values() for report in record.curve),
        "bytes": sum(sizes.values()),
        "weights_bytes": sum(size for path, size in sizes.items() if path.startswith("weights/")),
    }
    summary = summarise(ledger, plan.trials)
    if as_json:
        print_json(summary | effort)
        return
    say_summary(str(folder), summary)
    disk = f"{effort['bytes'] / 1e6:.1f} MB on disk, {effort['weights_bytes'] / 1e6:.1f} of them weights"
    say(f"trials have computed for {timedelta(seconds=round(effort['seconds']))}; {disk}")


@app.command(epilog="Example: `forage gc runs/default-20261121-093000 --keep 20`")
def gc(run: RunArgument, keep: KeepOption = None) -> None:
    """Delete what a run no longer needs: leftovers of killed processes and, with --keep, weights of all but the best.

    The OOF of trials that lose their weights moves to `retired/`: blends can no longer use it. Blends that were built
    before have copies of their own.
    """
    from pasture.run_folder import RunFolder
    from tune.sweep import collect

    freed = collect(RunFolder(run), keep)
    say(f"{run}: {freed / 1e6:.1f} MB freed")


@app.command(epilog="Example: `forage ensemble runs/a runs/b --out blend --method auto`")
def ensemble(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run directories.")],
    out: Annotated[Path, typer.Option(metavar="BLEND", help="Blend folder to write; must not exist.")],
    tta: Annotated[TtaChoice, typer.Option(help="Test-time augmentation the blend is chosen for.")] = TtaChoice.d4,
    method: MethodOption = MethodChoice.greedy,
    max_members: MaxMembersOption = None,
    max_backbones: MaxBackbonesOption = None,
    min_weight: MinWeightOption = 0.0,
    min_gain: MinGainOption = None,
    bags: BagsOption = 0,
    warm_start: WarmStartOption = 0,
    steps: StepsOption = 200,
    scale: ScaleOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build a blend from the trials of one or several runs and say what it is worth on data it has not seen."""
    from ensemble.build import build
    from ensemble.selection import Options
    from forage.report import attempt, write_blend_report
    from forage.tables import blend_table
    from pasture.run_folder import RunFolder

    options = Options(
        steps=steps,
        warm_start=warm_start,
        bags=bags,
        max_members=max_members,
        max_backbones=max_backbones,
        min_gain=min_gain,
        min_weight=min_weight,
    )
    blend = build([RunFolder(run) for run in runs], out, tta.value, method.value, options, scale)
    if as_json:
        print_json(blend.scores())
    else:
        Console(highlight=False).print(blend_table(blend))
    for warning in blend.warnings:
        warn(warning)
    for key, reason in blend.evidence.refused if blend.evidence else []:
        warn(f"{key} left out: {reason}")
    attempt(lambda: write_blend_report(blend), say)
    say(f"blend: {out}")


@app.command(epilog="Example: `forage predict blend data/csiro --out submission.csv`")
def predict(
    blend: Annotated[Path, typer.Argument(metavar="BLEND", help="Blend folder that `forage ensemble` wrote.")],
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Submission to write.")],
    tta: Annotated[TtaChoice | None, typer.Option(help="Test-time augmentation; the blend's own by default.")] = None,
    members: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write each member's predictions.")] = None,
    uncertainty: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write spreads and 90 % intervals for every target."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(metavar="MEMBER=FILE", help="What an imported member predicts for these photographs; repeatable."),
    ] = None,
) -> None:
    """Predict the test photographs of a data folder; needs neither the run, nor Ray, nor the internet."""
    from ensemble.blend import Blend
    from ensemble.predict import predict as run
    from ensemble.prediction_file import read_given
    from ensemble.submission import read_order, write_submission
    from ensemble.uncertainty import predict_in_detail, write_members, write_uncertainty
    from pasture.dataset import read_test

    test = read_test(data)
    order = read_order(data, test.ids)
    loaded = Blend.read(blend)
    known = read_given(parse_given(given or []), test.ids)
    with bars() as watch:
        if members or uncertainty:
            detail = predict_in_detail(loaded, test, tta.value if tta else None, known, watch)
            predictions = detail.predictions
        else:
            predictions = run(loaded, test, tta.value if tta else None, known, watch)
    if members:
        write_members(members, loaded, test.ids, detail)
    if uncertainty:
        write_uncertainty(uncertainty, loaded, test.ids, detail)
        if loaded.conformal is None:
            warn("no intervals: the blend was judged on fewer than 9 dates")
    write_submission(out, order, test.ids, predictions)
    say(f"{out}: {len(order)} rows for {len(test)} photographs")


app.command("import", epilog="Example: `forage import oof/*.csv --truth data/csiro/train.csv --name theirs`")(
    blend_commands.import_
)
app.command(epilog="Example: `forage refit blend data/csiro --out blend-refit`")(blend_commands.refit)


@app.command(epilog="Example: `forage pseudo blend data/csiro --out data/csiro-pseudo --weight 0.3`")
def pseudo(
    blend: Annotated[Path, typer.Argument(metavar="BLEND", help="Blend folder that `forage ensemble` wrote.")],
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Data folder to make; must not exist.")],
    weight: Annotated[float, typer.Option(help="How much a pseudo-label counts; a measured image counts 1.")] = 0.5,
) -> None:
    """Make a data folder in which the test photographs join the labelled ones, with the blend's predictions as targets.

    They are trained on with a weight and never held out. Still, scores of models trained on such a folder flatter: the
    blend has seen the labels of all folds, and its predictions carry them into every fold. Compare such models on the
    leaderboard or on a hidden truth.
    """
    from ensemble.blend import Blend
    from forage.pseudo import LEAK, write_pseudo

    count = write_pseudo(Blend.read(blend), data, out, weight)
    say(f"{out}: the data of {data} and {count} photographs with pseudo-labels of weight {weight:g}")
    warn(LEAK)


@app.command(epilog="Example: `forage demo`")
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where to; an earlier demo there is replaced.")] = Path(
        "demo"
    ),
) -> None:
    """The whole job in a few minutes, on synthetic paddocks: data, sweep, blend, predictions, submission."""
    from forage.demo import run

    run(out, say)


def main() -> None:
    """Entry point: every error of ours is one line and an exit status."""
    warnings.showwarning = lambda message, category, *_: warn(str(message)) if category is UserWarning else None
    try:
        app()
    except ForageError as error:
        messages.print(f"forage: {error}", markup=False)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        messages.print("forage: interrupted", markup=False)
        sys.exit(INTERRUPTED)


def override(space: Any, settings: list[str] | None, epochs: int | None) -> Any:
    """A space with what `--set` and `--epochs` fix."""
    overrides = parse_settings(settings or []) | ({"schedule.epochs": epochs} if epochs is not None else {})
    return space.fixed(overrides) if overrides else space


def new_run(runs: str, name: str) -> Any:
    """The run directory of a name.

    Raises:
        InputError: the name is a path.
    """
    from pasture.files import Folder
    from pasture.run_folder import RunFolder

    if "/" in name or name.startswith("."):
        raise InputError(f"--name {name!r}: a name, not a path; say where with --runs")
    return RunFolder(str(Folder.at(runs) / name))


def conclude(outcome: Any, as_json: bool) -> None:
    """Say how a session of a sweep ended, and exit with what that means."""
    from forage.report import attempt, write_run_report
    from tune.plan import Plan

    plan = Plan.read(outcome.run)
    summary = summarise(outcome.ledger, plan.trials)
    if as_json:
        print_json({**summary, "run": str(outcome.run)})
    else:
        say_summary(str(outcome.run), summary)
    attempt(lambda: write_run_report(outcome.run), say)
    go_on = f"go on with: forage resume {outcome.run}"
    if outcome.stopped_by == "signal":
        say(f"stopped; {go_on}")
        raise typer.Exit(INTERRUPTED)
    if outcome.stopped_by == "hours":
        say(f"stopped after {plan.hours:g} h, as asked; {go_on}")
    if outcome.stopped_by == "score":
        say(f"stopped at the score asked for, {plan.until_score:g}; {go_on} --until-score ...")
    if summary["complete"] == 0 and summary["failed"]:
        first = next((r.error for r in outcome.ledger.with_status("FAILED")), "no trial was complete")
        messages.print(f"forage: no trial was complete; the first error: {first}", markup=False)
        raise typer.Exit(1)


def summarise(ledger: Any, trials: int) -> dict[str, Any]:
    """What `forage status --json` prints."""
    best = ledger.best()
    return {
        "trials": trials,
        "complete": len(ledger.with_status("COMPLETE")),
        "pruned": len(ledger.with_status("PRUNED")),
        "failed": len(ledger.with_status("FAILED")),
        "running": len(ledger.with_status("RUNNING")),
        "best_score": best.score if best else None,
        "best_trial": best.name if best else None,
    }


def say_summary(run: str, summary: dict[str, Any]) -> None:
    """The same for a person."""
    best = f"best {summary['best_score']:.4f} by {summary['best_trial']}" if summary["best_trial"] else "no score yet"
    say(
        f"{run}: {summary['trials']} trials, {summary['complete']} complete, {summary['pruned']} pruned, "
        f"{summary['failed']} failed, {summary['running']} running or unfinished; {best}"
    )
