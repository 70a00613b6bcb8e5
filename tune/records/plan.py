"""What was asked of a sweep: the content of sweep.yaml. Light to import, so that `forage status` answers at once."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from pasture.errors import InputError
from pasture.run_folder import RunFolder

Search = Literal["optuna", "random"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a sweep may use: the part of its plan that `resume` may change.

    Attributes:
        trials: how many, those of every ending counted.
        promote: how many of them go on after a first stage, a third of the epochs; None for no such stage. It cannot
            be changed: the checkpoints of the others are gone.
        hours: after which a session stops; each session has as many again.
        until_score: the sweep stops once a complete trial has it.
        trial_timeout: seconds that a trial may run in one session or stage; one that takes longer hangs and has failed.
        max_failures: how often a trial's worker may die (out of memory, a lost node) before the trial has failed.
        keep: how many complete trials keep their weights, the best ones; None for all.
        cpus_per_trial, gpus_per_trial: what each trial asks Ray for; no number of GPUs means one where there is any,
            or as many as a fold has.
        gpus_per_fold: how many of a trial's GPUs train one fold together; the others train other folds.

    Raises:
        InputError: a limit that nothing can keep.
    """

    trials: int
    promote: int | None = None
    hours: float | None = None
    until_score: float | None = None
    trial_timeout: float | None = None
    max_failures: int = 2
    keep: int | None = None
    cpus_per_trial: float = 1.0
    gpus_per_trial: float | None = None
    gpus_per_fold: int = 1

    def __post_init__(self) -> None:
        for name in ("trials", "promote", "hours", "trial_timeout", "keep", "gpus_per_fold"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"--{name.replace('_', '-')} {value}: expected more than 0")
        if self.promote is not None and self.promote > self.trials:
            raise InputError(f"--promote {self.promote}: expected at most as many as --trials {self.trials}")
        if self.max_failures < 0:
            raise InputError(f"--max-failures {self.max_failures}: expected at least 0")


@dataclass(frozen=True, kw_only=True)
class Plan(Limits):
    """What was asked for: the content of sweep.yaml.

    Attributes:
        data: data folder.
        space: as `Space.to_dict`.
        search: optuna or random.
        seed: of the search.
        fingerprint: of the data.
        versions: of packages, when it was launched.
    """

    data: str
    space: dict[str, Any]
    search: Search
    seed: int
    fingerprint: str
    versions: dict[str, str]

    @classmethod
    def read(cls, run: RunFolder) -> Plan:
        """The plan of a run directory.

        Raises:
            InputError: no run directory, or sweep.yaml is damaged.
        """
        content = run.read_sweep()
        known = {f.name for f in fields(cls)}
        needed = {f.name for f in fields(cls) if f.default is MISSING}
        if odd := (set(content) - known) | (needed - set(content)):
            raise InputError(f"{run}/sweep.yaml: damaged, or of another version (keys {sorted(odd)})")
        return cls(**content)
