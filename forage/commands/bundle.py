"""The command `forage bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forage.python_api import functions as api
from forage.terminal.messages import say, warn
from forage.terminal.options import BlendArgument


def bundle(
    blend: BlendArgument,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder to write, or a file that ends in .zip; must not exist.")
    ],
    without: Annotated[
        list[str] | None, typer.Option(metavar="PACKAGE", help="A package that the host has; repeatable.")
    ] = None,
    ship: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="PACKAGE", help="A package that Kaggle has and this host lacks; repeatable."),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option("--python-version", metavar="X.Y", help="Python of the host.  [default: the one that runs]"),
    ] = None,
) -> None:
    """Pack a blend for a notebook without internet: its weights, the wheels that the host lacks, and a notebook.

    Wheels of other packages are downloaded by pip, in the versions installed here, for Linux x86-64.
    """
    made = api.load_blend(blend).bundle(out, without=without or (), ship=ship or (), python=python)
    for note in made.notes:
        warn(note)
    say(f"bundle: {out}, {made.size / 1e6:.1f} MB, {len(made.wheels)} wheels: {', '.join(made.wheels)}")
    say("attach it to a notebook as a data set and run its inference.ipynb there")
