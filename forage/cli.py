"""The command line. Each command is thin: it turns words into arguments, and results into text or JSON."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from forage import blend_commands, sweep_commands
from forage.features import features
from forage.messages import messages, print_json, say, warn
from forage.options import DataArgument, JsonOption
from forage.outer_cv_command import outer_cv
from forage.recipes import recipes
from pasture.errors import DataError, ForageError

app = typer.Typer(
    name="forage",
    help="Hyperparameter search on Ray and honest ensembles for pasture biomass from photographs.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command("make-data", epilog="Example: `forage make-data data/synthetic --images 48`")
def make_data(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; must not exist.")],
    images: Annotated[
        int | None,
        typer.Option(
            help="Labelled photographs; a quarter as many more are unlabelled. Default: 64, or 357 with --like real."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
    like: Annotated[
        Literal["demo", "real"],
        typer.Option(help="`demo`: easy to learn; `real`: about as hard as the competition's photographs."),
    ] = "demo",
) -> None:
    """Draw synthetic paddocks whose pixels determine the weights, in the competition's layout."""
    from pasture.synthetic import make_data as draw

    count = draw(out, images, seed=seed, like=like)
    say(f"{out}: {count} labelled photographs; the truth of the test photographs is in {out / 'hidden_truth.csv'}")


@app.command(epilog="Example: `forage check data/csiro`")
def check(data: DataArgument, as_json: JsonOption = False) -> None:
    """Read a data folder whole, every picture too, and say what is in it or what is wrong with it."""
    from pasture.data_check import check_folder

    try:
        checked = check_folder(data)
    except DataError as error:
        # Not raised again: `main` would print the first finding only.
        for finding in error.findings:
            messages.print(f"forage: {finding}", markup=False)
        raise typer.Exit(error.exit_status) from None
    train = checked.train
    result: dict[str, Any] = {
        "images": int(train.measured.sum()),
        "dates": len(set(train.dates[train.measured])),
        "baseline": train.baseline(),
        "fingerprint": train.fingerprint,
        "pseudo_images": int((~train.measured).sum()),
        "test_images": None if checked.test is None else len(checked.test),
    }
    if as_json:
        print_json(result)
        return
    say(f"{data}: {result['images']} labelled photographs on {result['dates']} dates, all readable")
    if result["pseudo_images"]:
        say(f"{result['pseudo_images']} photographs with pseudo-labels, trained on but never held out, all readable")
    if result["test_images"] is not None:
        say(f"{result['test_images']} test photographs, all readable")
    say(f"predicting each target's mean scores {result['baseline']:.4f}")
    say(f"fingerprint {train.fingerprint}")


app.command(epilog="Example: `forage sweep data/csiro --trials 24 --set schedule.epochs=40`")(sweep_commands.sweep)
app.command(epilog="Example: `forage train data/csiro --recipe feature_ridge`")(sweep_commands.train)
app.command(epilog="Example: `forage resume runs/default-20261121-093000 --trials 100`")(sweep_commands.resume)
app.command(epilog="Example: `forage status runs/default-20261121-093000 --json`")(sweep_commands.status)
app.command(epilog="Example: `forage gc runs/default-20261121-093000 --keep 20`")(sweep_commands.gc)
app.command(epilog="Example: `forage ensemble runs/a runs/b --out blend --method auto`")(blend_commands.ensemble)
app.command("outer-cv", epilog="Example: `forage outer-cv data/csiro --trials 24 --against random --out outer-cv`")(
    outer_cv
)
app.command(epilog="Example: `forage predict blend data/csiro --out submission.csv`")(blend_commands.predict)
app.command("import", epilog="Example: `forage import oof/*.csv --truth data/csiro/train.csv --name theirs`")(
    blend_commands.import_
)
app.command(epilog="Example: `forage refit blend data/csiro --out blend-refit`")(blend_commands.refit)
app.command(epilog="Example: `forage pseudo blend data/csiro --out data/csiro-pseudo --weight 0.3`")(
    blend_commands.pseudo
)
app.add_typer(recipes, name="recipes")
app.add_typer(features, name="features")


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
        sys.exit(sweep_commands.INTERRUPTED)
