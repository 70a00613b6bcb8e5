"""Commands of a data folder, `forage make-data`, `forage check` and `forage exclude`, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from forage.terminal.messages import print_json, say, show
from forage.terminal.options import DataArgument, JsonOption
from pasture.errors import DataError


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
    """Make synthetic paddocks whose pixels determine the weights, in the competition's layout."""
    from pasture.synthetic import make_data as draw

    count = draw(out, images, seed=seed, like=like)
    say(f"{out}: {count} labelled photographs; the truth of the test photographs is in {out / 'hidden_truth.csv'}")


def check(data: DataArgument, as_json: JsonOption = False) -> None:
    """Check a data folder, every picture included, and print what is in it or everything that is wrong with it."""
    from pasture.data_check import check_folder

    try:
        checked = check_folder(data)
    except DataError as error:
        # Not raised again: `main` would print the first finding only.
        for finding in error.findings:
            say(f"forage: {finding}")
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
    show(f"{data}: {result['images']} labelled photographs on {result['dates']} dates, all readable")
    if result["pseudo_images"]:
        show(f"{result['pseudo_images']} photographs with pseudo-labels, trained on but never held out, all readable")
    if result["test_images"] is not None:
        show(f"{result['test_images']} test photographs, all readable")
    show(f"predicting each target's mean scores {result['baseline']:.4f}")
    show(f"fingerprint {train.fingerprint}")


def exclude(
    data: DataArgument,
    ids: Annotated[Path, typer.Argument(metavar="IDS", help="Text file with one image id in each line; # for notes.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Data folder to write; must not exist.")],
) -> None:
    """Write a data folder without some labelled photographs, such as those with a wrong label."""
    from pasture.exclude import read_ids, write_without

    chosen = set(read_ids(ids))
    left = write_without(data, chosen, out)
    say(f"{out}: {left} labelled photographs, {len(chosen)} of {data} excluded")


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write; an earlier demo is replaced.")] = Path(
        "demo"
    ),
) -> None:
    """Run the whole pipeline in a few minutes on synthetic paddocks: data, sweep, blend, predictions, submission."""
    from forage.commands.demo import run

    run(out, say)
