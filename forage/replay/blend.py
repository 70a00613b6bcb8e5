"""Blends of what a simulated sweep has trained, scored on the outer dates of its split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensemble.weighting.library import Library, combine
from ensemble.weighting.methods import fit_method
from ensemble.weighting.options import MethodName, Options
from forage.replay.simulate import Simulated
from forage.replay.table import Split, Table
from pasture.metric import residual_ss, total_ss


def complete(simulated: Simulated, seconds: float) -> list[int]:
    """Recipes that were trained to the end before all trials together had computed for some seconds.

    With one worker that is the state of the sweep at that time.
    """
    found: list[int] = []
    for trial in simulated.trials:
        if trial.computed > seconds:
            break
        if trial.record.status == "COMPLETE" and trial.entry not in found:
            found.append(trial.entry)
    return found


def outer_loss(table: Table, split: Split, entries: Sequence[int], method: MethodName) -> float:
    """Weighted residual sum of squares on the outer dates of a blend of some recipes, chosen on the other dates.

    Args:
        table: the recipes.
        split: what they predict.
        entries: numbers of the recipes; at least one.
        method: how the blend is chosen.
    """
    members = [trained for number in entries if (trained := split.trained[number]) is not None]
    backbones = [table.entries[number].backbone for number in entries]
    library = Library.of_arrays(split.truth, np.stack([m.oof for m in members]), split.dates, backbones)
    weights = fit_method(method, library, Options())
    return residual_ss(split.outer_truth, combine(weights, np.stack([m.outer for m in members])))


def pooled_r2(splits: Sequence[Split], losses: Sequence[float]) -> float:
    """R2 over the outer dates of all splits, from the loss on each."""
    return 1.0 - sum(losses) / total_ss(np.concatenate([split.outer_truth for split in splits]))
