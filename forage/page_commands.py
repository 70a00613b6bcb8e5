"""Commands that write pages for a browser: `forage report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forage.messages import say
from forage.words import check_output, existing_run
from pasture.errors import InputError


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
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write every figure as SVG; needs kaleido and a browser.")
    ] = None,
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
        folder, page = Folder.at(location), blend_page(Blend.read(Path(location)), str(data or ""))
    else:
        run = existing_run(location)
        folder, page = run.folder, run_page(run, str(data or ""))
    say(f"report: {write_page(page, folder, out)}")
    if figures:
        written = write_figures(page, figures)
        say(f"{figures}: {len(written)} figures")
