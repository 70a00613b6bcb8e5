"""The interface of a pruner, all pruners, and the epochs of their rungs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from pasture.errors import InputError
from tune.pruning.asha_pruner import AshaPruner
from tune.pruning.paired_pruner import PairedPruner
from tune.records.plan import Pruner as PrunerName


class Pruner(Protocol):
    """Decides at some epochs whether a trial continues.

    A pruner keeps no state that `judge` has not been given: one that is given every report of the ledger again, in any
    order, decides as the one that was interrupted would have decided.

    Attributes:
        rungs: epochs (1-based) at which it judges.
    """

    rungs: tuple[int, ...]

    def judge(self, trial: str, report: Mapping[str, Any], searched: bool = True) -> bool:
        """Record a trial's report; whether the trial may continue.

        Args:
            trial: its name.
            report: of an epoch: `epoch`, `score` and, at a rung, `date_losses` (see `Trial.step`).
            searched: False for a trial that always continues, such as a start trial. It is recorded all the same, so
                that searched trials are compared with it.
        """


class NoPruner:
    """Trains every trial to its end."""

    rungs: tuple[int, ...] = ()

    def judge(self, trial: str, report: Mapping[str, Any], searched: bool = True) -> bool:
        """True."""
        return True


def make_pruner(
    name: PrunerName, epochs: int, *, grace: int | None = None, reduction: int = 3, promote: int | None = None
) -> Pruner:
    """A pruner by name.

    Args:
        name: `paired`, `asha` or `none`.
        epochs: of the longest trials.
        grace: the first rung; see `rung_epochs`.
        reduction: about 1/reduction of the trials continue after a rung.
        promote: how many trials a first stage promotes, if there is one. At every rung at least that many searched
            trials continue, and there are no rungs at or after the end of the first stage.

    Raises:
        InputError: no rung lies before the last epoch.
    """
    if name == "none":
        return NoPruner()
    rungs = rung_epochs(epochs, grace, reduction)
    if promote is not None:
        rungs = tuple(rung for rung in rungs if rung < first_stage_epochs(epochs))
    kind = PairedPruner if name == "paired" else AshaPruner
    return kind(rungs, reduction, promote or 0)


def rung_epochs(epochs: int, grace: int | None = None, reduction: int = 3) -> tuple[int, ...]:
    """Epochs at which trials are compared.

    With `grace` g and `reduction` r they are g, g r, g r^2, ... below the last epoch, as in ASHA. Without it they are
    the epochs at 1/r^2 and 1/r of a trial, rounded up.

    Raises:
        InputError: `grace` is not below the last epoch.
    """
    if grace is None:
        return tuple(sorted({math.ceil(epochs / reduction**2), math.ceil(epochs / reduction)} - {epochs}))
    if grace >= epochs:
        raise InputError(f"--grace {grace}: expected fewer than the {epochs} epochs of a trial, or use --pruner none")
    rungs = [grace]
    while rungs[-1] * reduction < epochs:
        rungs.append(rungs[-1] * reduction)
    return tuple(rungs)


def first_stage_epochs(epochs: int) -> int:
    """Length of the first stage of `--promote`: a third of a trial, rounded up."""
    return math.ceil(epochs / 3)
