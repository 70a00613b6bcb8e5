"""The plan of a sweep: the content of sweep.yaml. Light to import, so that `forage status` answers at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pasture.errors import InputError
from pasture.run_folder import RunFolder

Search = Literal["optuna", "random"]
Pruner = Literal["asha", "paired", "none"]
Objective = Literal["score", "blend", "score-per-second"]
TrackerName = Literal["tensorboard", "wandb", "mlflow", "csv"]

RESOURCES = ("cpus_per_trial", "gpus_per_trial", "gpus_per_fold")
"""Fields that say what a trial asks Ray for."""

CHANGEABLE = (
    "trials",
    "hours",
    "until_score",
    "trial_timeout",
    "max_failures",
    "keep",
    "confirm",
    "data",
    "track",
    *RESOURCES,
)
"""Fields that `resume` may change. The others decide which trials run and for how long, so a resumed sweep keeps them;
a changed `promote` would also need the checkpoints of trials that were not promoted, which are deleted."""


_WORDS = {"Input should be": "expected", "greater than or equal to": "at least", "greater than": "more than"}
"""Pydantic's words and ours."""


class Limits(BaseModel):
    """The options of a sweep: its budget, its pruning and what each trial asks Ray for.

    Raises:
        InputError: a value is out of range; the message names the command line option.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    trials: int = Field(gt=0)
    """How many trials, whatever their outcome."""
    promote: int | None = Field(None, gt=0)
    """How many trials continue after a first stage, a third of the epochs; None for no first stage."""
    hours: float | None = Field(None, gt=0)
    """Stop a session after this time; each session has as much again."""
    until_score: float | None = None
    """Stop once a complete trial reaches this score."""
    trial_timeout: float | None = Field(None, gt=0)
    """Fail a trial that trains for longer than this in one session or stage, in seconds."""
    max_failures: int = Field(2, ge=0)
    """How often a trial's worker may die (out of memory, a lost node) before the trial has failed."""
    keep: int | None = Field(None, gt=0)
    """How many complete trials keep their weights, the best ones; None for all."""
    cpus_per_trial: float = Field(1.0, ge=0)
    """CPUs each trial asks for."""
    gpus_per_trial: float | None = Field(None, ge=0)
    """GPUs each trial asks for; None for one where the cluster has any, or as many as a fold has."""
    gpus_per_fold: int = Field(1, gt=0)
    """How many of a trial's GPUs train one fold together; the others train other folds."""
    pruner: Pruner = "asha"
    """`asha`: asynchronous successive halving on the score; `paired`: prune only what is behind by more than the
    standard error of the difference paired by date; `none`: train every trial to its end."""
    grace: int | None = Field(None, gt=0)
    """The first epoch at which a trial may be pruned; None for the pruner's own choice."""
    reduction: int = Field(3, ge=2)
    """Factor between one rung and the next."""
    objective: Objective = "score"
    """What the search maximises: a trial's own score, or what it adds to the blend of the trials before it, or
    its score with the seconds that a trial takes considered."""
    confirm: int = Field(0, ge=0)
    """How many of the best recipes are trained again with other seeds and folds."""
    warm_start: str | None = None
    """Location of an earlier run whose best recipes run first."""
    outer: tuple[str, ...] = ()
    """Sampling dates held out of everything, for an outer cross-validation."""
    start: bool = True
    """Whether the space's start recipes run first."""
    track: tuple[TrackerName, ...] = ()
    """Trackers that show every trial while the sweep runs."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InputError(_first_error(error)) from None

    @model_validator(mode="after")
    def _promotes_no_more_than_there_are(self) -> Self:
        if self.promote is not None and self.promote > self.trials:
            raise ValueError(f"--promote {self.promote}: expected at most as many as --trials {self.trials}")
        return self


class Plan(Limits):
    """Everything that a sweep was asked for: the content of sweep.yaml."""

    data: str
    """Data folder."""
    space: dict[str, Any]
    """As `Space.to_dict`."""
    search: Search
    """How trials are proposed."""
    seed: int
    """Seed of the search."""
    fingerprint: str
    """Fingerprint of the data."""
    versions: dict[str, str]
    """Versions of packages when the sweep was launched."""

    @classmethod
    def read(cls, run: RunFolder) -> Plan:
        """The plan of a run directory.

        Raises:
            InputError: no run directory, or sweep.yaml is damaged.
        """
        content = run.read_sweep()
        needed = {name for name, field in cls.model_fields.items() if field.is_required()}
        if odd := (set(content) - set(cls.model_fields)) | (needed - set(content)):
            raise InputError(f"{run}/sweep.yaml: damaged, or of another version (keys {sorted(odd)})")
        return cls(**content)

    def write(self, run: RunFolder) -> None:
        """Write sweep.yaml."""
        run.write_sweep(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values."""
        return self.model_dump(mode="json")

    def changed(self, changes: Mapping[str, Any]) -> Plan:
        """A plan with some fields replaced.

        Raises:
            InputError: a field that a started sweep keeps, or a value out of range.
        """
        if fixed := [name for name in changes if name not in CHANGEABLE]:
            raise InputError(f"{option(fixed[0])}: cannot be changed in a sweep that has started; start another sweep")
        return Plan(**{**self.to_dict(), **changes})


def _first_error(error: ValidationError) -> str:
    first = error.errors()[0]
    if not first["loc"]:
        return first["msg"].removeprefix("Value error, ")
    field = option(str(first["loc"][0]))
    if first["type"] == "missing":
        return f"{field}: required"
    if first["type"] == "extra_forbidden":
        return f"{field}: no such option"
    message = first["msg"]
    for theirs, ours in _WORDS.items():
        message = message.replace(theirs, ours)
    return f"{field} {first['input']}: {message}"


def option(name: str) -> str:
    """The command line option of a field."""
    return f"--{name.replace('_', '-')}"
