"""Commands of a run directory: launching a sweep, resuming it, looking at it, tidying it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from forage.messages import messages, print_json, say
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
    PromoteOption,
    RunArgument,
    RunsOption,
    ScoreOption,
    SearchName,
    SetOption,
    ShipOption,
    TimeoutOption,
    new_run,
    parse_settings,
)

INTERRUPTED = 130


def sweep(
    data: DataArgument,
    name: NameOption = "",
    runs: RunsOption = "runs",
    space: Annotated[str, typer.Option(help="A shipped search space or a YAML file.")] = "default",
    trials: Annotated[int, typer.Option(min=1, help="How many trials.")] = 24,
    promote: PromoteOption = None,
    hours: HoursOption = None,
    until_score: ScoreOption = None,
    epochs: EpochsOption = None,
    search: Annotated[SearchName, typer.Option(help="How trials are proposed.")] = SearchName.optuna,
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
    """Search for recipes on Ray, pruning with ASHA. Leaves a run directory that can be resumed and blended."""
    from search_spaces.catalogue import load_space
    from tune.records.plan import Limits

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
    )
    chosen = override(load_space(space), settings, epochs)
    run = new_run(runs, name or f"{Path(space).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    from tune.sweep import launch  # torch and Ray take seconds to import: only after the arguments have been checked

    outcome = launch(
        run, data, chosen, limits, search=search.value, seed=seed, connection=connect_to(address, ship_code)
    )
    conclude(outcome, as_json)


def train(
    data: DataArgument,
    recipe: Annotated[str, typer.Option(help="A shipped recipe (`forage recipes`) or a YAML file.")],
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
    """Train one recipe on all its folds, without a search. Leaves a run directory like a sweep's, of one trial."""
    from search_spaces.catalogue import load_recipe
    from search_spaces.space import Space
    from tune.records.plan import Limits

    limits = Limits(trials=1, cpus_per_trial=cpus_per_trial, gpus_per_trial=gpus_per_trial, gpus_per_fold=gpus_per_fold)
    chosen = override(Space(load_recipe(recipe), (), {}), settings, epochs)
    run = new_run(runs, name or f"{Path(recipe).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    from tune.sweep import launch

    outcome = launch(run, data, chosen, limits, search="random", connection=connect_to(address, ship_code))
    conclude(outcome, as_json)


def resume(
    run: RunArgument,
    trials: Annotated[int | None, typer.Option(min=1, help="How many trials in all: more extend the sweep.")] = None,
    hours: HoursOption = None,
    until_score: ScoreOption = None,
    data: Annotated[Path | None, typer.Option(help="Where the data folder is now, if it has moved.")] = None,
    address: AddressOption = "local",
    ship_code: ShipOption = False,
    cpus_per_trial: Annotated[float | None, typer.Option(min=0, help="CPUs each trial asks for.")] = None,
    gpus_per_trial: Annotated[float | None, typer.Option(min=0, help="GPUs each trial asks for.")] = None,
    gpus_per_fold: Annotated[int | None, typer.Option(min=1, help="GPUs that train one fold together.")] = None,
    trial_timeout: TimeoutOption = None,
    max_failures: Annotated[
        int | None, typer.Option(help="How often the worker of one trial may die before the trial has failed.")
    ] = None,
    keep: KeepOption = None,
    cache_limit: CacheLimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a sweep that was stopped, by whatever, or extend one that has ended. No ended trial runs again.

    What is not given stays as it was. A run directory from somebody else is data, not code: JSON, YAML, Parquet,
    safetensors, and checkpoints that are read with weights_only.
    """
    from pasture.run_folder import RunFolder
    from tune.sweep import resume as go_on

    given = {
        "trials": trials,
        "hours": hours,
        "until_score": until_score,
        "data": str(data) if data else None,
        "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial,
        "gpus_per_fold": gpus_per_fold,
        "trial_timeout": trial_timeout,
        "max_failures": max_failures,
        "keep": keep,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    conclude(go_on(RunFolder(run), changes, connection=connect_to(address, ship_code)), as_json)


def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """How far a sweep has come, also while it runs; or what members an import has brought."""
    from pasture.run_folder import RunFolder
    from tune.records.ledger import Ledger
    from tune.records.plan import Plan

    folder = RunFolder(run)
    if folder.imported:
        _imported_status(folder, as_json)
        return
    plan = Plan.read(folder)
    ledger = Ledger(folder)
    sizes = folder.folder.sizes()
    effort = {
        "seconds": sum(report["seconds"] for record in ledger.records.values() for report in record.curve),
        "bytes": sum(sizes.values()),
        "weights_bytes": sum(size for path, size in sizes.items() if path.startswith("weights/")),
    }
    summary = summarise(ledger, plan.trials)
    if as_json:
        print_json(summary | effort)
        return
    say_summary(str(folder), summary)
    disk = f"{effort['bytes'] / 1e6:.1f} MB on disk, {effort['weights_bytes'] / 1e6:.1f} of them weights"
    say(f"trials have computed for {timedelta(seconds=round(effort['seconds']))}; {disk}")


def _imported_status(run: Any, as_json: bool) -> None:
    from ensemble.members.external import external_members

    members = [member.metadata for member in external_members(run)]
    best = max(members, key=lambda member: member["score"])
    if as_json:
        print_json({"imported": len(members), "best_score": best["score"], "best_trial": best["trial"]})
    else:
        say(f"{run}: {len(members)} imported member(s); best {best['score']:.4f} by {best['trial']}")


def gc(run: RunArgument, keep: KeepOption = None) -> None:
    """Delete what a run no longer needs: leftovers of killed processes and, with --keep, weights of all but the best.

    The OOF of trials that lose their weights moves to `retired/`: blends can no longer use it. Blends that were built
    before have copies of their own.
    """
    from pasture.run_folder import RunFolder
    from tune.sweep import collect

    freed = collect(RunFolder(run), keep)
    say(f"{run}: {freed / 1e6:.1f} MB freed")


def override(space: Any, settings: list[str] | None, epochs: int | None) -> Any:
    """A space with what `--set` and `--epochs` fix."""
    overrides = parse_settings(settings or []) | ({"schedule.epochs": epochs} if epochs is not None else {})
    return space.fixed(overrides) if overrides else space


def connect_to(address: str, ship_code: bool) -> Any:
    """How the command line connects to Ray: it ends the process if Ray dies."""
    from tune.cluster.connection import RayConnection
    from tune.cluster.ray_health import end_process

    return RayConnection(address, ship_code, on_loss=end_process)


def conclude(outcome: Any, as_json: bool) -> None:
    """Say how a session of a sweep ended, and exit with what that means."""
    from forage.report import attempt, write_run_report
    from tune.records.plan import Plan

    plan = Plan.read(outcome.run)
    summary = summarise(outcome.ledger, plan.trials)
    if as_json:
        print_json({**summary, "run": str(outcome.run)})
    else:
        say_summary(str(outcome.run), summary)
    attempt(lambda: write_run_report(outcome.run), say)
    go_on = f"go on with: forage resume {outcome.run}"
    if outcome.stopped_by == "signal":
        say(f"stopped; {go_on}")
        raise typer.Exit(INTERRUPTED)
    if outcome.stopped_by == "hours":
        say(f"stopped after {plan.hours:g} h, as asked; {go_on}")
    if outcome.stopped_by == "score":
        say(f"stopped at the score asked for, {plan.until_score:g}; {go_on} --until-score ...")
    if summary["complete"] == summary["waiting"] == 0 and summary["failed"]:
        first = next((r.error for r in outcome.ledger.with_status("FAILED")), "no trial was complete")
        messages.print(f"forage: no trial was complete; the first error: {first}", markup=False)
        raise typer.Exit(1)


def summarise(ledger: Any, trials: int) -> dict[str, Any]:
    """What `forage status --json` prints."""
    best = ledger.best()
    return {
        "trials": trials,
        "complete": len(ledger.with_status("COMPLETE")),
        "pruned": len(ledger.with_status("PRUNED")),
        "failed": len(ledger.with_status("FAILED")),
        "running": len(ledger.with_status("RUNNING")),
        "waiting": len(ledger.with_status("WAITING")),
        "best_score": best.score if best else None,
        "best_trial": best.name if best else None,
    }


def say_summary(run: str, summary: dict[str, Any]) -> None:
    """The same for a person."""
    known = summary["best_trial"] is not None
    best = f"best {summary['best_score']:.4f} by {summary['best_trial']}" if known else "no complete trial yet"
    waiting = f", {summary['waiting']} waiting after the first stage" if summary["waiting"] else ""
    say(
        f"{run}: {summary['trials']} trials, {summary['complete']} complete, {summary['pruned']} pruned, "
        f"{summary['failed']} failed, {summary['running']} running or unfinished{waiting}; {best}"
    )
