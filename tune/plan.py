"""What was asked of a sweep: the content of sweep.yaml. Light to import, so that `forage status` answers at once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from pasture.errors import InputError
from pasture.run_folder import RunFolder

Search = Literal["optuna", "random"]


@dataclass(frozen=True)
class Plan:
    """What was asked for: the content of sweep.yaml.

    Attributes:
        data: data folder.
        space: as `Space.to_dict`.
        trials: how many, those of every ending counted.
        search: optuna or random.
        seed: of the search.
        cpus_per_trial, gpus_per_trial: what each trial asks Ray for; no number of GPUs means one where there is any.
        fingerprint: of the data.
        versions: of packages, when it was launched.
    """

    data: str
    space: dict[str, Any]
    trials: int
    search: Search
    seed: int
    cpus_per_trial: float
    gpus_per_trial: float | None
    fingerprint: str
    versions: dict[str, str]

    @classmethod
    def read(cls, run: RunFolder) -> Plan:
        """The plan of a run directory.

        Raises:
            InputError: no run directory, or sweep.yaml is damaged.
        """
        content = run.read_sweep()
        names = {f.name for f in fields(cls)}
        if set(content) != names:
            raise InputError(f"{run}/sweep.yaml: damaged, or of another version (keys {sorted(set(content) ^ names)})")
        return cls(**content)
