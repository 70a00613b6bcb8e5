"""Arguments and options that several commands share. Names of choices are Literals of the packages that define them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import typer

from ensemble.weighting.options import MethodChoice
from pasture.errors import InputError
from trainables.recipe.sections import TtaName

SEARCH, PRUNING, BUDGET, RESOURCES = "Search", "Pruning", "Budget", "Ray and resources"
"""Groups of options on help pages."""


def set_cache_limit(limit: float | None) -> float | None:
    """Pass the limit to this process and to the processes that it starts, as FORAGE_CACHE_LIMIT."""
    if limit is not None:
        if not 0 < limit < math.inf:
            raise InputError(f"--cache-limit {limit:g}: expected a positive number of GB, such as 20")
        os.environ["FORAGE_CACHE_LIMIT"] = str(limit)
    return limit


DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Data folder in the competition's layout.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run directory that `forage sweep` wrote.")]
BlendArgument = Annotated[Path, typer.Argument(metavar="BLEND", help="Blend folder that `forage ensemble` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RecipeOption = Annotated[str, typer.Option(help="A shipped recipe (`forage recipes list`) or a YAML file.")]
SpaceOption = Annotated[str, typer.Option(help="A shipped search space or a YAML file.", rich_help_panel=SEARCH)]
AddressOption = Annotated[
    str,
    typer.Option(
        help="Address of Ray: `local`, `auto` (the cluster that this machine belongs to) or HOST:PORT.",
        rich_help_panel=RESOURCES,
    ),
]
ShipOption = Annotated[
    bool,
    typer.Option(
        "--ship-code",
        help="Send forage's code to the nodes of a cluster, which then need its libraries only.",
        rich_help_panel=RESOURCES,
    ),
]

NameOption = Annotated[str, typer.Option(help="Name of the run.  [default: the space or recipe, and the time]")]
RunsOption = Annotated[str, typer.Option(help="Folder of the run directories: a path or a URI (s3://bucket/runs).")]
EpochsOption = Annotated[
    int | None, typer.Option(min=1, help="Epochs of a whole trial; the recipe's by default.", rich_help_panel=SEARCH)
]
CpusOption = Annotated[float, typer.Option(min=0, help="CPUs of each trial.", rich_help_panel=RESOURCES)]
GpusOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="GPUs of each trial; with several, its folds train at the same time.  [default: one if there is any]",
        rich_help_panel=RESOURCES,
    ),
]
GpusPerFoldOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="GPUs that train one fold together, each on a part of every batch. A trial with more GPUs trains several "
        "folds at the same time.",
        rich_help_panel=RESOURCES,
    ),
]
CacheLimitOption = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        help="Disk space for decoded pictures and features on this machine; the least recently used are deleted first. "
        "On the nodes of a cluster, set FORAGE_CACHE_LIMIT there.  [default: $FORAGE_CACHE_LIMIT, else 50]",
        callback=set_cache_limit,
        rich_help_panel=RESOURCES,
    ),
]
HoursOption = Annotated[
    float | None,
    typer.Option(help="Stop after this many hours. A resumed sweep has as many hours again.", rich_help_panel=BUDGET),
]
ScoreOption = Annotated[
    float | None, typer.Option(help="Stop once a complete trial reaches this score.", rich_help_panel=BUDGET)
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Fail trials that train for longer than this after their first epoch. The first epoch, which may include "
        "the time to compute features or to decode pictures, does not count.",
        rich_help_panel=BUDGET,
    ),
]
FailuresOption = Annotated[
    int,
    typer.Option(help="How often the worker of one trial may die before the trial has failed.", rich_help_panel=BUDGET),
]
KeepOption = Annotated[
    int | None,
    typer.Option(
        help="Keep the weights of this many complete trials, the best ones.  [default: all]", rich_help_panel=BUDGET
    ),
]
TrackOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TRACKER",
        help="Show every trial live in `tensorboard`, `wandb`, `mlflow` or `csv`; repeatable. `none`: in none of them.",
        rich_help_panel=BUDGET,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="FIELD=VALUE", help="Set a recipe field in every trial; repeatable.", rich_help_panel=SEARCH
    ),
]
TtaOption = Annotated[TtaName, typer.Option(help="Test-time augmentation that the blend is chosen for.")]
MethodOption = Annotated[
    MethodChoice,
    typer.Option(
        help="How members are weighted. `uniform`: mean of all; `best-k`: mean of the k best, in which backbones weigh "
        "the same; `greedy`: greedy selection; `simplex`: best convex weights; `shrunk`: convex weights, shrunk toward "
        "the mean; `per-target`: convex weights for each target; `ridge`: stacking; `auto`: the simplest method within "
        "one standard error of the best, on dates held out."
    ),
]
MaxMembersOption = Annotated[int | None, typer.Option(min=1, help="Largest number of members.")]
MaxBackbonesOption = Annotated[int | None, typer.Option(min=1, help="Largest number of distinct backbones.")]
MinWeightOption = Annotated[float, typer.Option(min=0, max=1, help="Drop members with less weight.")]
MinGainOption = Annotated[float | None, typer.Option(help="Greedy: stop at a step that raises R2 by less.")]
BagsOption = Annotated[int, typer.Option(min=0, help="Greedy: average this many selections from random halves.")]
WarmStartOption = Annotated[int, typer.Option(min=0, help="Greedy: start from this many of the best members.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Greedy: largest number of steps.")]
ScaleOption = Annotated[
    bool, typer.Option("--scale-targets", help="Scale each target by a factor where that pays on dates held out.")
]
