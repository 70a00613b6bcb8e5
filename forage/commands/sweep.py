"""Commands that start a run: `forage sweep` and `forage train`."""

from __future__ import annotations

import yaml

from forage.commands.conclude import conclude
from forage.python_api import functions as api
from forage.python_api.options import SweepOptions
from forage.terminal.messages import print_json, show
from forage.terminal.options import (
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
    TrackOption,
)
from forage.terminal.sweep_options import (
    ConfirmOption,
    DryRunOption,
    GraceOption,
    ObjectiveOption,
    PromoteOption,
    PrunerOption,
    ReductionOption,
    SearchOption,
    SeedOption,
    StartOption,
    TrialsOption,
    WarmStartRunOption,
)
from forage.terminal.words import connect_to, parse_trackers, recipe_settings
from tune.records.ledger import Record


def sweep(
    data: DataArgument,
    name: NameOption = "",
    runs: RunsOption = "runs",
    space: SpaceOption = "default",
    trials: TrialsOption = 24,
    search: SearchOption = "optuna",
    objective: ObjectiveOption = "score",
    start: StartOption = True,
    warm_start: WarmStartRunOption = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
    epochs: EpochsOption = None,
    pruner: PrunerOption = "asha",
    grace: GraceOption = None,
    reduction: ReductionOption = 3,
    promote: PromoteOption = None,
    hours: HoursOption = None,
    until_score: ScoreOption = None,
    trial_timeout: TimeoutOption = None,
    max_failures: FailuresOption = 2,
    keep: KeepOption = None,
    confirm: ConfirmOption = 0,
    track: TrackOption = None,
    address: AddressOption = "local",
    ship_code: ShipOption = False,
    cpus_per_trial: CpusOption = 1,
    gpus_per_trial: GpusOption = None,
    gpus_per_fold: GpusPerFoldOption = 1,
    cache_limit: CacheLimitOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search for recipes on Ray. Writes a run directory that can be resumed and blended."""
    options: SweepOptions = {
        "objective": objective, "start": start, "warm_start": warm_start, "confirm": confirm,
        "pruner": pruner, "grace": grace, "reduction": reduction, "promote": promote,
        "hours": hours, "until_score": until_score, "trial_timeout": trial_timeout,
        "max_failures": max_failures, "keep": keep,
        "cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial, "gpus_per_fold": gpus_per_fold,
        "track": parse_trackers(track) or (),
    }  # fmt: skip
    fields = recipe_settings(settings, epochs)
    if dry_run:
        proposed = api.propose(
            data, space, trials=trials, name=name, runs=runs, search=search, seed=seed, settings=fields, **options
        )
        _show_proposals(proposed, as_json)
        return

    conclude(
        lambda: api.launch(
            data, space, trials=trials, name=name, runs=runs, search=search, seed=seed, settings=fields,
            connection=lambda: connect_to(address, ship_code), **options,
        ),
        as_json,
    )  # fmt: skip


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
    conclude(
        lambda: api.train(
            data,
            recipe,
            name=name,
            runs=runs,
            settings=recipe_settings(settings, epochs),
            connection=lambda: connect_to(address, ship_code),
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            gpus_per_fold=gpus_per_fold,
        ),
        as_json,
    )


def _show_proposals(records: list[Record], as_json: bool) -> None:
    if as_json:
        print_json([{"trial": r.name, **vars(r)} for r in records])
        return
    for record in records:
        drawn = ", ".join(f"{field}={value}" for field, value in record.params.items())
        show(f"---\n# {record.name} ({record.origin}): {drawn or 'nothing is drawn'}")
        show(yaml.safe_dump(record.recipe, sort_keys=False).rstrip() if record.recipe else f"# fails: {record.error}")
