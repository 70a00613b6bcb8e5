"""What words of the command line mean: settings, runs, outputs, the address of Ray."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pasture.errors import InputError
from tune.records.plan import TrackerName

if TYPE_CHECKING:
    from pasture.run_folder import RunFolder
    from search_spaces.space import Space
    from tune.cluster.connection import Connection


def parse_given(words: list[str]) -> dict[str, Path]:
    """`member=file` words to a mapping.

    Raises:
        InputError: a word without `=`, or a member that is given twice.
    """
    result: dict[str, Path] = {}
    for word in words:
        member, equals, file = word.partition("=")
        if not equals or not member or not file:
            raise InputError(f"--given {word!r}: expected MEMBER=FILE, such as theirs-swin=swin_test.csv")
        if member in result:
            raise InputError(f"--given {word!r}: {member} is given twice; give one file for each member")
        result[member] = Path(file)
    return result


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`field=value` words to a mapping; values as in YAML.

    Raises:
        InputError: a word without `=`, a value that is not YAML, or a field that is set twice.
    """
    from search_spaces.yaml_file import read_yaml

    result: dict[str, Any] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals or not field:
            raise InputError(f"--set {setting!r}: expected field=value, such as head.dropout=0.3")
        if field in result:
            raise InputError(f"--set {setting!r}: {field} is set twice; set it once")
        result[field] = read_yaml(value, f"--set {setting!r}")
    return result


def recipe_settings(settings: list[str] | None, epochs: int | None) -> dict[str, Any]:
    """The recipe fields that `--set` and `--epochs` fix.

    Raises:
        InputError: a word that is no setting, or a field that is set twice.
    """
    result = parse_settings(settings or [])
    if epochs is not None:
        if "schedule.epochs" in result:
            raise InputError("--epochs and --set schedule.epochs are the same field; give one of them")
        result["schedule.epochs"] = epochs
    return result


def parse_trackers(words: list[str] | None) -> list[TrackerName] | None:
    """The trackers that `--track` asks for: None where the option is not given, empty for `none`.

    Raises:
        InputError: an unknown tracker, or `none` beside another.
    """
    if words is None:
        return None
    if "none" in words and set(words) != {"none"}:
        raise InputError("--track none: cannot be given with another tracker; give one or the other")
    known = {name: name for name in get_args(TrackerName)}
    if odd := [word for word in words if word not in {*known, "none"}]:
        raise InputError(f"--track {odd[0]}: no such tracker; expected {', '.join(known)} or none")
    return [known[word] for word in dict.fromkeys(words) if word != "none"]


def override(space: Space, settings: list[str] | None, epochs: int | None) -> Space:
    """A space with the fields that `--set` and `--epochs` fix.

    Raises:
        InputError: an unknown field, a value out of range, or a field that is set twice.
    """
    overrides = recipe_settings(settings, epochs)
    return space.fixed(overrides) if overrides else space


def new_run(runs: str, name: str) -> RunFolder:
    """The run directory of a new name.

    Raises:
        InputError: the name is a path, or the folder is a file.
    """
    from pasture.files import Folder
    from pasture.run_folder import RunFolder

    if "/" in name or name.startswith("."):
        raise InputError(f"--name {name!r}: expected a name, not a path; choose the folder with --runs")
    folder = Folder.at(runs) / name
    if folder.is_local:
        _check_parents(Path(folder.path), f"--runs {runs}")
    return RunFolder(str(folder))


def existing_run(location: str) -> RunFolder:
    """The run directory at a location.

    Raises:
        InputError: nothing is there, something else, or a run of a newer forage.
    """
    from pasture.run_folder import RunFolder

    run = RunFolder(location)
    if not run.folder.exists("sweep.yaml") and not run.external:
        raise InputError(f"{run}: not a run directory; expected one that `forage sweep` or `forage import` wrote")
    if not run.external:
        run.read_sweep()  # refuses a newer format before anything else is read
    return run


def connect_to(address: str, ship_code: bool) -> Connection:
    """How the command line connects to Ray: it ends the process if Ray dies."""
    from tune.cluster.connection import RayConnection
    from tune.cluster.ray_health import end_process

    return RayConnection(address, ship_code, on_loss=end_process)


def check_output(file: Path | None, option: str) -> None:
    """Check, before anything is computed, that a file can be written.

    Raises:
        InputError: it is a directory, or its folder is not one.
    """
    if file is None:
        return
    if file.is_dir():
        raise InputError(f"{option} {file}: is a directory; expected a file")
    _check_parents(file, f"{option} {file}")


def check_output_folder(folder: Path | None, option: str) -> None:
    """Check, before anything is computed, that files can be written to a folder, which may not exist yet.

    Raises:
        InputError: it is a file, or lies below one.
    """
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{option} {folder}: is a file; expected a folder")
    _check_parents(folder, f"{option} {folder}")


def _check_parents(path: Path, what: str) -> None:
    nearest = next(p for p in path.absolute().parents if p.exists())
    if not nearest.is_dir():
        raise InputError(f"{what}: {nearest} is not a directory; choose another place")
