"""Options of `forage ensemble` and `forage predict` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RefitOption = Annotated[
    bool | None,
    typer.Option(
        "--refit/--no-refit",
        help="Whether members are trained again on all photographs, one model in place of those of the folds. "
        "By default those on frozen backbones are.",
    ),
]
RefitDataOption = Annotated[
    Path | None, typer.Option(metavar="DATA", help="Data folder to train them on, if it has moved since the sweep.")
]
HalfOption = Annotated[
    bool,
    typer.Option(
        "--half", help="Store backbones in half precision where that changes no prediction by more than .05 g."
    ),
]
TimeOption = Annotated[
    bool, typer.Option("--time", help="Measure how long the heaviest members take, and print it beside their scores.")
]
MembersFileOption = Annotated[Path | None, typer.Option(metavar="FILE", help="Also write each member's predictions.")]
UncertaintyOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Also write spreads and 90 % intervals for every target.")
]
MapsOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Also draw grams per cell over each photograph; needs a density head."),
]
GivenOption = Annotated[
    list[str] | None,
    typer.Option(metavar="MEMBER=FILE", help="Predictions of an imported member for these photographs; repeatable."),
]
HeaviestOption = Annotated[
    int | None, typer.Option("--max-members", min=1, help="Number of members to predict with, the heaviest first.")
]
SecondsOption = Annotated[
    float | None,
    typer.Option(
        "--max-seconds", help="Predict with as many of the heaviest members as this time allows, by a measurement."
    ),
]
