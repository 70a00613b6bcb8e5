"""Everything that the driver sends to a trainable about one trial, as one typed object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from pasture.oof import Origin


@dataclass(frozen=True)
class TrialJob:
    """One trial as its worker needs to know it.

    Attributes:
        run: location of the run directory.
        data: path of the data folder where the sweep was launched.
        fingerprint: of the dataset.
        forage: the driver's version; workers of another version refuse the trial.
        trial: name of the trial.
        recipe: the recipe as JSON. One text, because Ray copies, flattens and keeps every part of a configuration.
        resources: what the trial asks Ray for, in all.
        gpus_per_fold: number of GPUs that train one fold together.
        reported: number of epochs that the driver has reports of already.
        node: id of the driver's node on a cluster, from which other nodes fetch the data; None without a cluster.
        cut: number of epochs after which the trial may wait for a later session; None for no such wait.
        rungs: numbers of epochs (1-based) whose reports have `date_losses`, beside the last epoch.
        origin: where the trial comes from.
        outer: dates (YYYY-MM-DD) that are held out of the whole sweep.
    """

    run: str
    data: str
    fingerprint: str
    forage: str
    trial: str
    recipe: str
    resources: Mapping[str, float]
    gpus_per_fold: int = 1
    reported: int = 0
    node: str | None = None
    cut: int | None = None
    rungs: tuple[int, ...] = ()
    origin: Origin = "search"
    outer: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The job in a Ray Tune configuration; fields that Ray has added are left out."""
        return cls(**{field.name: config[field.name] for field in fields(cls) if field.name in config})

    def to_config(self) -> dict[str, Any]:
        """A Ray Tune configuration."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
