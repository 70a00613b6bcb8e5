"""Commands that start a run: `forage sweep` and `forage train`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from forage.options import (
    AddressOption,
    CacheLimitOption,
    CpusOption,
    DataArgument,
    EpochsOption,
    FailuresOption,
    GpusOption,
    GpusPerFoldOption,
    HoursOption,
    JsonOption,
    KeepOption,
    NameOption,
    RecipeOption,
    RunsOption,
    ScoreOption,
    SetOption,
    ShipOption,
    SpaceOption,
    TimeoutOption,
)
from forage.summary import conclude
from forage.words import connect_to, existing_run, new_run, override
from pasture.errors import InputError
from tune.records.plan import Limits, Objective, Pruner, Search


def sweep(
    data: DataArgument,
    name: NameOption = "",
    runs: RunsOption = "runs",
    space: SpaceOption = "default",
    trials: Annotated[int, typer.Option(min=1, help="Number of trials, those of `start` included.")] = 24,
    search: Annotated[Search, typer.Option(help="How trials are proposed: `optuna` (TPE) or `random`.")] = "optuna",
    objective: Annotated[
        Objective,
        typer.Option(
            help="What the search maximises: the `score` of a trial, or what a trial adds to the `blend` of the trials "
            "before it."
        ),
    ] = "score",
    start: Annotated[
        bool, typer.Option("--start/--no-start", help="Whether the space's start recipes run first, never pruned.")
    ] = True,
    warm_start: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Run the best recipes of an earlier run first, and let the search learn from its trials.",
        ),
    ] = None,
    pruner: Annotated[
        Pruner,
        typer.Option(
            help="Which trials are stopped early. `asha`: those below the best third at a rung; `paired`: those behind "
            "by more than the standard error of the difference, paired by date; `none`: no trial."
        ),
    ] = "asha",
    no_prune: Annotated[bool, typer.Option("--no-prune", help="The same as `--pruner none`.")] = False,
    grace: Annotated[
        int | None, typer.Option(min=1, metavar="EPOCH", help="First epoch at which a trial may be pruned.")
    ] = None,
    reduction: Annotated[
        int, typer.Option(min=2, help="Each rung is this many times as late as the one before it.")
    ] = 3,
    promote: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Train all trials for a third of the epochs, then only the best N to the end.",
        ),
    ] = None,
    confirm: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Train the best N recipes again with other seeds and folds."),
    ] = 0,
    hours: HoursOption = None,
    until_score: ScoreOption = None,
    epochs: EpochsOption = None,
    address: AddressOption = "local",
    ship_code: ShipOption = False,
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = None,
    gpus_per_fold: GpusPerFoldOption = 1,
    trial_timeout: TimeoutOption = None,
    max_failures: FailuresOption = 2,
    keep: KeepOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search.")] = 0,
    cache_limit: CacheLimitOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search for recipes on Ray. Writes a run directory that can be resumed and blended."""
    from search_spaces.catalogue import load_space

    if no_prune and pruner == "paired":
        raise InputError("--no-prune and --pruner paired contradict each other; give one of them")
    limits = Limits(
        trials=trials,
        promote=promote,
        hours=hours,
        until_score=until_score,
        trial_timeout=trial_timeout,
        max_failures=max_failures,
        keep=keep,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        gpus_per_fold=gpus_per_fold,
        pruner="none" if no_prune else pruner,
        grace=grace,
        reduction=reduction,
        objective=objective,
        confirm=confirm,
        warm_start=str(existing_run(warm_start)) if warm_start else None,
        start=start,
    )
    chosen = override(load_space(space), settings, epochs)
    chosen.check_trials(trials)
    run = new_run(runs, name or f"{Path(space).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    # torch and Ray take seconds to import: only once the options are known to be right.
    from tune.sweep import launch

    connection = connect_to(address, ship_code)
    conclude(launch(run, data, chosen, limits, search=search, seed=seed, connection=connection), as_json)


def train(
    data: DataArgument,
    recipe: RecipeOption,
    name: NameOption = "",
    runs: RunsOption = "runs",
    epochs: EpochsOption = None,
    address: AddressOption = "local",
    ship_code: ShipOption = False,
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = None,
    gpus_per_fold: GpusPerFoldOption = 1,
    cache_limit: CacheLimitOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one recipe on all its folds, without a search. Writes a run directory of one trial."""
    from search_spaces.catalogue import load_recipe
    from search_spaces.space import Space

    limits = Limits(trials=1, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial, gpus_per_fold=gpus_per_fold)
    chosen = override(Space(load_recipe(recipe)), settings, epochs)
    run = new_run(runs, name or f"{Path(recipe).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    from tune.sweep import launch

    outcome = launch(run, data, chosen, limits, search="random", connection=connect_to(address, ship_code))
    conclude(outcome, as_json)
