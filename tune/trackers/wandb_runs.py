"""Weights & Biases: a run for each trial, in a group for each run directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb

from pasture.errors import InputError
from tune.records.ledger import Record
from tune.trackers.names import facts, fields
from tune.trackers.tracker import ENDED

_OFFLINE = ("offline", "dryrun", "disabled")


def check_login() -> None:
    """Check that runs can be sent to a server, where they are to be.

    Raises:
        InputError: no login on this machine, and W&B's mode is not offline.
    """
    if os.environ.get("WANDB_MODE", "online") not in _OFFLINE and not wandb.login(prompt=False):
        raise InputError(
            "--track wandb: no login on this machine; run `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline"
        )


class WandbTracker:
    """Writes W&B runs; with WANDB_MODE=offline to files that `wandb sync` sends later.

    Args:
        folder: where W&B makes its folder `wandb`, unless WANDB_DIR is set.
        group: name of the group; the project is WANDB_PROJECT, else `forage`.
        identity: of the run directory: part of the ids of its trials.
    """

    def __init__(self, folder: Path, group: str, identity: str) -> None:
        self.folder = Path(os.environ.get("WANDB_DIR") or folder)
        self.group, self.identity = group, identity
        self.folder.mkdir(parents=True, exist_ok=True)

    def begin(self, record: Record) -> WandbRun:
        """The run of a trial. The id follows from the trial, so that W&B continues the run that it has.

        Offline, W&B cannot read what it has: the whole history goes to another folder with the same id, and
        `wandb sync` makes one run of both.
        """
        identity = f"{self.identity}-{record.name}"
        return WandbRun(record, self.folder, self.group, identity)


class WandbRun:
    """The run of one trial.

    Args:
        record: the trial.
        folder, group: as of `WandbTracker`.
        identity: of the W&B run.
    """

    def __init__(self, record: Record, folder: Path, group: str, identity: str) -> None:
        # Reading the server would take seconds a trial, so a file says which ended trials it has.
        self.mark = folder / "ended" / identity
        self.ended = record.status in ENDED and self.mark.exists()
        if self.ended:
            self.logged = len(record.curve)
            return
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "forage",
            group=group,
            name=record.name,
            id=identity,
            config=fields(record),
            dir=str(folder),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, init_timeout=30
            ),
        )
        self.logged = max(0, int(self.run.starting_step) - 1)  # 0 for a new run, else the step after the last one
        self.run.define_metric("epoch")
        self.run.define_metric("*", step_metric="epoch")

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Add a step; epochs and W&B's steps are the same number."""
        self.run.log({"epoch": epoch, **values}, step=epoch)

    def end(self, record: Record) -> None:
        """Finish the run; its status is in the summary and among its tags."""
        self.run.summary.update(facts(record))
        self.run.tags = (*(self.run.tags or ()), record.status.lower())
        self.run.finish(exit_code=int(record.status == "FAILED"))
        self.mark.parent.mkdir(exist_ok=True)
        self.mark.touch()

    def pause(self) -> None:
        """Finish the run for now."""
        self.run.finish()
