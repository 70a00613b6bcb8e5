"""The Python API: launch a sweep, resume it, build a blend, read either. The command line calls these functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, cast

from forage.python_api.blend import Blend
from forage.python_api.live_report import live_report
from forage.python_api.options import Resources, ResumeOptions, Selection, SweepOptions
from forage.python_api.run import Interrupted, Run, as_folder

if TYPE_CHECKING:
    from ensemble.weighting.options import MethodChoice
    from pasture.run_folder import RunFolder
    from search_spaces.space import Space
    from trainables.recipe.recipe import Recipe
    from trainables.recipe.sections import TtaName
    from tune.cluster.connection import Connection
    from tune.records.ledger import Record
    from tune.records.plan import Limits, Search
    from tune.session import Outcome

    Connect = str | Connection | Callable[[], Connection]


def launch(
    data: str | Path,
    space: str | Path | Mapping[str, Any] | Space = "default",
    *,
    trials: int = 24,
    name: str = "",
    runs: str | Path = "runs",
    search: Search = "optuna",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    connection: Connect = "local",
    **options: Unpack[SweepOptions],
) -> Run:
    """Search for recipes on Ray, as `forage sweep` does, and return when all trials have ended.

    Progress goes to standard error, in a notebook to the output of the cell. Ctrl-C, or interrupting the kernel of a
    notebook, ends the sweep so that it can be resumed. A sweep of more than a minute keeps report.html in the run
    directory up to date.

    Args:
        data: data folder in the competition's layout.
        space: a shipped search space, a YAML file, the content of one, or a space.
        trials: number of trials, the start recipes included.
        name: of the run; by default the name of the space and the time.
        runs: folder of the run directories: a path or a URI (s3://bucket/runs).
        search: how trials are proposed: `optuna` (TPE) or `random`.
        seed: of the search.
        settings: recipe fields to set in every trial, such as {"schedule.epochs": 40}.
        connection: address of Ray: `local` (the Ray that this process is connected to, else a new one for this sweep),
            `auto` (the cluster that this machine belongs to) or HOST:PORT. Or a `tune.cluster.connection.Connection`,
            or a function that returns one, called after the checks that need no Ray.
        **options: budget, pruning and resources, as on the command line; see `forage.python_api.options.SweepOptions`.

    Returns:
        The run directory. Trials that failed raise nothing here: see `status` and `error` in `run.trials`.

    Raises:
        InputError: bad data, an impossible recipe or option, a run directory that exists, resources that no node has.
        JobError: Ray or the disk fails.
        Interrupted: a KeyboardInterrupt; the sweep has stopped, and its `run` can be resumed.
    """
    run, chosen, limits = _asked(space, trials, name, runs, settings, options)
    from tune.sweep import launch as start  # only now: torch and Ray take seconds to import

    opened = _connection(connection)
    with live_report(run) as watch:
        return _ended(start(run, Path(data), chosen, limits, search=search, seed=seed, connection=opened, watch=watch))


def propose(
    data: str | Path,
    space: str | Path | Mapping[str, Any] | Space = "default",
    *,
    trials: int = 24,
    name: str = "",
    runs: str | Path = "runs",
    search: Search = "optuna",
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    **options: Unpack[SweepOptions],
) -> list[Record]:
    """The trials that a sweep would propose before it knows any result, as `forage sweep --dry-run` prints them.

    Everything is checked that `launch` checks before it starts Ray, and nothing is written.

    Args:
        data, space, trials, name, runs, search, seed, settings, options: as of `launch`.

    Returns:
        A record for each trial: `name`, `origin`, the drawn `params` and the whole `recipe`.

    Raises:
        InputError: bad data, an impossible recipe or option, a run directory that exists.
    """
    run, chosen, limits = _asked(space, trials, name, runs, settings, options)
    from tune.preview import proposals

    return proposals(run, Path(data), chosen, limits, search=search, seed=seed)


def train(
    data: str | Path,
    recipe: str | Path | Mapping[str, Any] | Recipe,
    *,
    name: str = "",
    runs: str | Path = "runs",
    settings: Mapping[str, Any] | None = None,
    connection: Connect = "local",
    **resources: Unpack[Resources],
) -> Run:
    """Train one recipe on all its folds without a search, as `forage train` does.

    Args:
        data, name, runs, settings, connection: as of `launch`.
        recipe: a shipped recipe, a YAML file, the content of one, or a recipe.
        **resources: see `forage.python_api.options.Resources`.

    Returns:
        A run directory of one trial.

    Raises:
        InputError, JobError, Interrupted: as `launch`.
    """
    from search_spaces.catalogue import load_recipe
    from search_spaces.space import Space
    from trainables.recipe.recipe import Recipe

    if isinstance(recipe, str | Path):
        name, recipe = name or _timed(recipe), load_recipe(str(recipe))
    elif not isinstance(recipe, Recipe):
        recipe = Recipe.parse(recipe)
    run, chosen, limits = _asked(
        Space(recipe), 1, name or _timed("recipe"), runs, settings, cast(SweepOptions, resources)
    )
    from tune.sweep import launch as start

    opened = _connection(connection)
    return _ended(start(run, Path(data), chosen, limits, search="random", connection=opened))


def resume(
    run: Run | str | Path,
    *,
    retry_failed: bool = False,
    connection: Connect = "local",
    **changes: Unpack[ResumeOptions],
) -> Run:
    """Resume a sweep that was stopped, or extend one that has ended, as `forage resume` does.

    Args:
        run: the run directory.
        retry_failed: run failed trials again, from their beginning.
        connection: as of `launch`.
        **changes: new limits, such as `trials=100`; what is None keeps its value. See
            `forage.python_api.options.ResumeOptions`.

    Returns:
        The run directory.

    Raises:
        InputError: no run directory, changes that the sweep cannot go on with, data that changed, or another process
            is running this sweep.
        JobError, Interrupted: as `launch`.
    """
    folder = as_folder(run)
    from tune.sweep import resume as go_on

    given = {option: value for option, value in changes.items() if value is not None}
    with live_report(folder) as watch:
        return _ended(go_on(folder, given, retry_failed=retry_failed, connection=_connection(connection), watch=watch))


def load_run(path: str | Path) -> Run:
    """Read a run directory that `forage sweep` or `forage import` wrote, also while the sweep runs.

    Raises:
        InputError: nothing is there, or something else.
    """
    return Run(as_folder(path))


def import_members(
    files: Sequence[str | Path],
    truth: str | Path,
    *,
    name: str = "",
    runs: str | Path = "runs",
    ids: str | Path | None = None,
    columns: Sequence[str] | None = None,
    folds: str | Path | None = None,
) -> Run:
    """Make a run directory from out-of-fold predictions of other tools, as `forage import` does.

    Args:
        files: CSV, Parquet, .npy or .npz; each is a member, or several.
        truth: train.csv; its pictures need not be there.
        name: of the run; by default `imported` and the time.
        runs: folder of the run directories.
        ids: for arrays: a file with the image id of each row.
        columns: for arrays: the target of each column.
        folds: CSV or Parquet with image_id and fold, where known.

    Returns:
        The run directory; `run.trials` has the score of each member.

    Raises:
        InputError: the run exists, or a file cannot be imported, naming it.
        JobError: the run cannot be written.
    """
    from ensemble.members.external import import_members as write
    from forage.terminal.words import new_run

    run = new_run(str(runs), name or _timed("imported"))
    paths, chosen = [Path(file) for file in files], list(columns) if columns else None
    write(paths, Path(truth), run, Path(ids) if ids else None, chosen, Path(folds) if folds else None)
    return Run(run)


def build(
    runs: Run | str | Path | Sequence[Run | str | Path],
    out: str | Path = "blend",
    *,
    tta: TtaName = "d4",
    method: MethodChoice | None = None,
    scale_targets: bool = False,
    refit: bool | None = None,
    data: str | Path | None = None,
    **options: Unpack[Selection],
) -> Blend:
    """Build a blend from the trials of one run or several, as `forage ensemble` does.

    Args:
        runs: run directories made from the same data.
        out: folder to write; must not exist.
        tta: test-time augmentation that the members are chosen for: `none`, `flips` or `d4`.
        method: how members are weighted; None for `ensemble.weighting.options.DEFAULT_METHOD`.
        scale_targets: scale each target by a factor where that pays on dates held out.
        refit: train members again on all photographs, one model in place of those of the folds: True for all members,
            False for none, None for those on frozen backbones.
        data: data folder to train them on, if it has moved since the sweep.
        **options: of the selection; see `forage.python_api.options.Selection`.

    Returns:
        The blend. Read `blend.warnings` before its scores.

    Raises:
        InputError: `out` exists, no trial can be blended, weights are damaged, an option that the method does not use.
        JobError: the folder cannot be written.
    """
    from ensemble.blend.build import build as write
    from ensemble.weighting.options import DEFAULT_METHOD, Options

    given = [runs] if isinstance(runs, Run | str | Path) else runs
    folders = [as_folder(run) for run in given]
    blend = Blend(write(folders, Path(out), tta, method or DEFAULT_METHOD, Options(**options), scale_targets))
    return blend if refit is False else blend.refit_members(given, data, all_members=bool(refit))


def load_blend(folder: str | Path) -> Blend:
    """Read a blend folder that `forage ensemble` wrote.

    Raises:
        InputError: not a blend folder, or damaged.
    """
    from ensemble.blend.blend import Blend as BlendFolder

    return Blend(BlendFolder.read(Path(folder)))


def _asked(
    space: str | Path | Mapping[str, Any] | Space,
    trials: int,
    name: str,
    runs: str | Path,
    settings: Mapping[str, Any] | None,
    options: SweepOptions,
) -> tuple[RunFolder, Space, Limits]:
    """Run directory, space and limits of a sweep, as far as they can be checked without torch and Ray."""
    from forage.terminal.words import new_run
    from search_spaces.catalogue import load_space, parse_space
    from search_spaces.space import Space
    from tune.records.plan import Limits

    earlier = options.get("warm_start")
    located = {"warm_start": str(as_folder(earlier)) if earlier else None}
    limits = Limits(**{"trials": trials, **options, **located})
    if isinstance(space, str | Path):
        name, space = name or _timed(space), load_space(str(space))
    elif not isinstance(space, Space):
        space = parse_space(space)
    chosen = space.fixed(settings) if settings else space
    chosen.check_trials(trials)
    return new_run(str(runs), name or _timed("space")), chosen, limits


def _timed(name_or_file: str | Path) -> str:
    """Name of a new run: that of a space or recipe, and the time."""
    return f"{Path(name_or_file).stem}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def _connection(connection: Connect) -> Connection:
    """How to reach Ray; `local` means the Ray that this process is connected to, where it is."""
    import ray

    from tune.cluster.connection import ExistingRay, RayConnection

    if not isinstance(connection, str):
        return connection() if callable(connection) else connection
    if connection == "local" and ray.is_initialized():
        return ExistingRay(local=sum(node["Alive"] for node in ray.nodes()) == 1)
    return RayConnection(connection)


def _ended(outcome: Outcome) -> Run:
    """The run of a session that has ended.

    Raises:
        Interrupted: a signal ended it.
    """
    if outcome.stopped_by == "signal":
        raise Interrupted(Run(outcome.run))
    return Run(outcome.run, outcome.stopped_by)
