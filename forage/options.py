"""Arguments and options that several commands share, and how `--set` is read."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pasture.errors import InputError


class SearchName(StrEnum):
    """How trials are proposed."""

    optuna = "optuna"
    random = "random"


class TtaChoice(StrEnum):
    """Kinds of test-time augmentation."""

    none = "none"
    flips = "flips"
    d4 = "d4"


def set_cache_limit(limit: float | None) -> float | None:
    """Hand the limit to the store of this process and of those it starts."""
    if limit is not None:
        if not limit > 0:
            raise InputError(f"--cache-limit {limit:g}: expected a positive number of GB, such as 20")
        os.environ["FORAGE_CACHE_LIMIT"] = str(limit)
    return limit


class MethodChoice(StrEnum):
    """Ways to choose members and their weights."""

    greedy = "greedy"
    uniform = "uniform"
    shrunk = "shrunk"
    simplex = "simplex"
    per_target = "per-target"
    ridge = "ridge"
    auto = "auto"


DataArgument = Annotated[Path, typer.Argument(metavar="DATA", help="Data folder in the competition's layout.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run directory that `forage sweep` wrote.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
AddressOption = Annotated[
    str, typer.Option(help="Where Ray is: `local`, `auto` (the cluster that this machine is a node of) or HOST:PORT.")
]
ShipOption = Annotated[
    bool,
    typer.Option("--ship-code", help="Send forage's own code to the nodes of a cluster: they need its libraries only."),
]

NameOption = Annotated[str, typer.Option(help="Name of the run; what is run and the time by default.")]
RunsOption = Annotated[str, typer.Option(help="Where run directories lie: a path or a URI (s3://bucket/runs).")]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Epochs of a whole trial; the recipe's by default.")]
CpusOption = Annotated[float, typer.Option(min=0, help="CPUs each trial asks for.")]
GpusOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="GPUs each trial asks for; several train its folds side by side. One where there is any, by default.",
    ),
]
GpusPerFoldOption = Annotated[
    int,
    typer.Option(
        min=1,
        help="GPUs that train one fold together, each a share of every batch; a trial with more of them trains several "
        "folds at the same time.",
    ),
]
CacheLimitOption = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        help="Most disk that decoded pictures and features may take on this machine; those not used for longest leave "
        "first. On the nodes of a cluster, set FORAGE_CACHE_LIMIT there.  [default: $FORAGE_CACHE_LIMIT, else 50]",
        callback=set_cache_limit,
    ),
]
PromoteOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Train all trials for a first stage only, a third of the epochs; then the best N go on to the end. All "
        "that ASHA does not prune go on, by default.",
    ),
]
HoursOption = Annotated[
    float | None, typer.Option(help="Stop after so many hours, to be resumed; each session has as many again.")
]
ScoreOption = Annotated[float | None, typer.Option(help="Stop once a complete trial has this score.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Fail trials that train for longer than this after their first epoch."),
]
FailuresOption = Annotated[
    int, typer.Option(help="How often the worker of one trial may die before the trial has failed.")
]
KeepOption = Annotated[
    int | None, typer.Option(help="Keep the weights of that many complete trials, the best ones; all by default.")
]
MethodOption = Annotated[
    MethodChoice,
    typer.Option(
        help="How members are weighed: `greedy` selection; `uniform` mean of all; `simplex`: best convex weights; "
        "`shrunk`: those, drawn toward the mean; `per-target`: the same for each target; `ridge` stacking; `auto`: "
        "the simplest within one standard error of the best on new dates."
    ),
]
MaxMembersOption = Annotated[int | None, typer.Option(min=1, help="At most so many members.")]
MaxBackbonesOption = Annotated[int | None, typer.Option(min=1, help="At most so many distinct backbones.")]
MinWeightOption = Annotated[float, typer.Option(min=0, max=1, help="Drop members with less weight.")]
MinGainOption = Annotated[float | None, typer.Option(help="Greedy: end at a step that raises R2 by less.")]
BagsOption = Annotated[int, typer.Option(min=0, help="Greedy: average so many selections from random halves.")]
WarmStartOption = Annotated[int, typer.Option(min=0, help="Greedy: begin with so many of the best members.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Greedy: at most so many steps.")]
ScaleOption = Annotated[
    bool, typer.Option("--scale-targets", help="Scale each target by a factor, where that clearly pays on new dates.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set a recipe field in every trial, unsearched; repeatable."),
]


def parse_given(words: list[str]) -> dict[str, Path]:
    """`member=file` words to a mapping.

    Raises:
        InputError: a word without `=`.
    """
    result = {}
    for word in words:
        member, equals, file = word.partition("=")
        if not equals or not member or not file:
            raise InputError(f"--given {word!r}: expected MEMBER=FILE, such as theirs-swin=swin_test.csv")
        result[member] = Path(file)
    return result


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """`field=value` words to a mapping; values as in YAML.

    Raises:
        InputError: a word without `=`.
    """
    result = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals or not field:
            raise InputError(f"--set {setting!r}: expected field=value, such as head.dropout=0.3")
        try:
            result[field] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # the latter for a date that is none, such as 2001-13-40
            raise InputError(f"--set {setting!r}: the value is not YAML") from None
    return result


def new_run(runs: str, name: str) -> Any:
    """The run directory of a name.

    Raises:
        InputError: the name is a path.
    """
    from pasture.files import Folder
    from pasture.run_folder import RunFolder

    if "/" in name or name.startswith("."):
        raise InputError(f"--name {name!r}: a name, not a path; say where with --runs")
    return RunFolder(str(Folder.at(runs) / name))
