"""Keyword arguments that the functions of the Python API share; names and meanings are those of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from forage.python_api.run import Run
    from tune.records.plan import Objective, Pruner, TrackerName


class Resources(TypedDict, total=False):
    """What each trial asks Ray for.

    Attributes:
        cpus_per_trial: CPUs of each trial.
        gpus_per_trial: GPUs of each trial, also a fraction; None for one if there is any.
        gpus_per_fold: GPUs that train one fold together.
    """

    cpus_per_trial: float
    gpus_per_trial: float | None
    gpus_per_fold: int


class SweepOptions(Resources, total=False):
    """The options of a sweep, beside the arguments of `forage.launch`.

    Attributes:
        objective: `score`, or `blend` for what a trial adds to the blend of the trials before it, or `score-per-second`
            to prefer cheap recipes among those that TPE proposes.
        start: whether the space's start recipes run first.
        warm_start: an earlier run whose best recipes run first and from which the search learns.
        pruner: `asha`, `paired` or `none`.
        grace: first epoch at which a trial may be pruned; None for the pruner's own.
        reduction: each rung is this many times as late as the one before it.
        promote: train all trials for a third of the epochs, then this number of the best to the end; None for all.
        hours: stop after this many hours; a resumed sweep has as many again.
        until_score: stop once a complete trial reaches this score.
        trial_timeout: fail a trial that trains for longer than this after its first epoch, in seconds.
        max_failures: how often a trial's worker may die before the trial has failed.
        keep: keep the weights of this many complete trials; None for all.
        confirm: number of the best recipes that are trained again with other seeds and folds.
        track: show every trial live in `tensorboard`, `wandb`, `mlflow` or `csv`, or several of them.
    """

    objective: Objective
    start: bool
    warm_start: Run | str | Path | None
    pruner: Pruner
    grace: int | None
    reduction: int
    promote: int | None
    hours: float | None
    until_score: float | None
    trial_timeout: float | None
    max_failures: int
    keep: int | None
    confirm: int
    track: Sequence[TrackerName]


class ResumeOptions(TypedDict, total=False):
    """What `forage.resume` may change; None keeps the value. `trials` and the others are as in `forage.launch`.

    Attributes:
        data: the data folder, if it has moved.
        track: the trackers from now on; empty for none.
    """

    trials: int | None
    data: str | None
    hours: float | None
    until_score: float | None
    trial_timeout: float | None
    max_failures: int | None
    keep: int | None
    confirm: int | None
    track: Sequence[TrackerName] | None
    cpus_per_trial: float | None
    gpus_per_trial: float | None
    gpus_per_fold: int | None


class Selection(TypedDict, total=False):
    """How members of a blend are selected; see `ensemble.weighting.options.Options`.

    Attributes:
        steps: greedy: largest number of steps.
        warm_start: greedy: start from this many of the best members.
        bags: greedy: average this many selections from random halves.
        bag_fraction: greedy: share of the members in each bag.
        seed: greedy: draws the bags.
        max_members: largest number of members.
        max_backbones: largest number of distinct backbones.
        min_gain: greedy: stop at a step that raises R2 by less.
        min_weight: drop members with less weight.
    """

    steps: int
    warm_start: int
    bags: int
    bag_fraction: float
    seed: int
    max_members: int | None
    max_backbones: int | None
    min_gain: float | None
    min_weight: float


class PredictionFiles(TypedDict, total=False):
    """What `Blend.predict` writes beside its result; None for nothing.

    Attributes:
        members: a CSV file with the prediction of each member.
        uncertainty: a CSV file with spreads and 90 % intervals for every target.
        maps: a folder of pictures with grams per cell; needs a member with a density head.
    """

    members: str | Path | None
    uncertainty: str | Path | None
    maps: str | Path | None
