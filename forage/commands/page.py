"""Commands that write something to look at: `forage report`, `forage eda`, `forage batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forage.terminal.bars import bars
from forage.terminal.choices import FigureFormat
from forage.terminal.messages import say
from forage.terminal.options import DataArgument, RecipeOption
from forage.terminal.words import check_output, existing_run
from pasture.errors import InputError

FiguresOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Also write every figure as a file; needs kaleido and a browser.")
]
FormatOption = Annotated[FigureFormat, typer.Option(help="Format of the files of --figures.")]


def report(
    location: Annotated[str, typer.Argument(metavar="RUN|BLEND", help="Run directory, or blend folder.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Page to write.  [default: report.html in the folder]")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Data folder, for the photographs, states and species of a blend.  [default: that of its runs]",
        ),
    ] = None,
    outer_cv: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of `forage outer-cv` on the same data: adds the outer score of a blend."
        ),
    ] = None,
    figures: FiguresOption = None,
    figure_format: FormatOption = "svg",
) -> None:
    """Write the page of a run, also while its sweep runs, or of a blend: one HTML file that needs no internet."""
    from ensemble.blend.blend import Blend
    from ensemble.blend.blend_file import NAME
    from forage.pages.blend_page import blend_page
    from forage.pages.output import write_figures, write_page
    from forage.pages.run_page import run_page
    from pasture.files import Folder

    check_output(out, "--out")
    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: no such folder; expected a data folder")
    folder: Folder
    if Path(location, NAME).is_file():
        folder, page = Folder.at(location), blend_page(Blend.read(Path(location)), str(data or ""), outer_cv)
    else:
        run = existing_run(location)
        if outer_cv is not None:
            raise InputError(f"--outer-cv belongs to the page of a blend, and {location} is a run; leave it out")
        folder, page = run.folder, run_page(run, str(data or ""))
    say(f"report: {write_page(page, folder, out)}")
    if figures:
        written = write_figures(page, figures, figure_format)
        say(f"{figures}: {len(written)} figures")


def eda(
    data: DataArgument,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Page to write.")] = Path("eda.html"),
    recipe: RecipeOption = "frozen_mlp",
    figures: FiguresOption = None,
    figure_format: FormatOption = "svg",
) -> None:
    """Write a page about a data folder: targets, balance, correlations, photographs, near-duplicates, folds.

    The folds are those of the recipe.
    """
    from forage.pages.data_page import data_page
    from forage.pages.output import write_figures, write_page
    from pasture.files import Folder
    from search_spaces.catalogue import load_recipe

    check_output(out, "--out")
    loaded = load_recipe(recipe)
    with bars() as watch:
        page = data_page(data, loaded, watch)
    say(f"page: {write_page(page, Folder.at(data), out)}")
    if figures:
        say(f"{figures}: {len(write_figures(page, figures, figure_format))} figures")


def batch(
    data: DataArgument,
    recipe: RecipeOption = "frozen_mlp",
    out: Annotated[Path, typer.Option(metavar="FILE", help="Picture to write (PNG).")] = Path("batch.png"),
    seed: Annotated[int, typer.Option(help="Draws the photographs and their augmentation.")] = 0,
) -> None:
    """Draw a training batch as the network sees it: views after augmentation, with the targets."""
    from forage.pages.batch_picture import batch_picture
    from pasture.atomic import atomic_file
    from pasture.dataset import read_train
    from search_spaces.catalogue import load_recipe

    check_output(out, "--out")
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out}: expected a name that ends in .png")
    loaded = load_recipe(recipe)
    picture = batch_picture(read_train(data), loaded, seed)
    with atomic_file(out) as partial:
        picture.save(partial, "PNG")
    say(f"{out}: {loaded.view.kind} views, augmentation {loaded.augment.strength}")
