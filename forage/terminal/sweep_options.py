"""Options of `forage sweep` alone, in groups for its help page."""

from __future__ import annotations

from typing import Annotated

import typer

from forage.terminal.options import BUDGET, PRUNING, SEARCH
from tune.records.plan import Objective, Pruner, Search

TrialsOption = Annotated[
    int, typer.Option(min=1, help="Number of trials, those of `start` included.", rich_help_panel=SEARCH)
]
SearchOption = Annotated[
    Search, typer.Option(help="How trials are proposed: `optuna` (TPE) or `random`.", rich_help_panel=SEARCH)
]
ObjectiveOption = Annotated[
    Objective,
    typer.Option(
        help="What the search maximises: the `score` of a trial, or what a trial adds to the `blend` of the trials "
        "before it, or the `score-per-second`: of several proposals the one that is predicted to be cheapest runs.",
        rich_help_panel=SEARCH,
    ),
]
StartOption = Annotated[
    bool,
    typer.Option(
        "--start/--no-start",
        help="Whether the space's start recipes run first, never pruned.",
        rich_help_panel=SEARCH,
    ),
]
WarmStartRunOption = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="Run the best recipes of an earlier run first, and let the search learn from its trials.",
        rich_help_panel=SEARCH,
    ),
]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the search.", rich_help_panel=SEARCH)]
ConfirmOption = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Train the best N recipes again with other seeds and folds.", rich_help_panel=BUDGET
    ),
]
PrunerOption = Annotated[
    Pruner,
    typer.Option(
        help="Which trials are stopped early. `asha`: those below the best third at a rung; `paired`: those behind by "
        "more than the standard error of the difference, paired by date; `none`: no trial.",
        rich_help_panel=PRUNING,
    ),
]
GraceOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="EPOCH", help="First epoch at which a trial may be pruned.", rich_help_panel=PRUNING),
]
ReductionOption = Annotated[
    int, typer.Option(min=2, help="Each rung is this many times as late as the one before it.", rich_help_panel=PRUNING)
]
PromoteOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Train all trials for a third of the epochs, then only the best N to the end.",
        rich_help_panel=PRUNING,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check the data and all recipes, print the recipes that would run first as YAML, and start nothing.",
    ),
]
