"""Trials of a head on a frozen backbone: forage against the plain loop of published code (benchmarks/plain_loop.py).

The recipe is the preset `frozen_mlp` (EfficientNet-Lite0 on both halves at 256 pixels, 60 epochs) with 5 folds and
without standardising, on 72 photographs of 2000 x 1000. The plain loop is timed over two epochs of all folds and one
prediction under D4, from which a whole trial is extrapolated; its OOF predictions of both epochs must be forage's to a
thousandth of the truth's spread. forage's trials are run whole, files written; the time to decode photographs and
to fill the feature bank is shared by the trials of a sweep on one backbone: by one, and by 64. Both ways run one trial
at a time, on as many threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import torch

from benchmarks import plain_loop
from benchmarks.table import Options, Row, main, photographs
from benchmarks.timing import seconds
from pasture.dataset import Dataset, read_train
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset, verify
from search_spaces.catalogue import load_recipe
from trainables.compute.precision import best_device
from trainables.features.context import TrialContext
from trainables.features.feature_bank import feature_bank
from trainables.recipe.recipe import Recipe
from trainables.trial import artifacts
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

SHARED_BY = (1, 64)
MEASURED_EPOCHS, MEASURED_TRIALS = 2, 5
TOLERANCE = 0.001
"""Largest root mean square difference of OOF predictions, as a share of the truth's standard deviation. What differs is
rounding: the bank keeps features in half precision."""


def measure(options: Options) -> Iterator[Row]:
    """One row for every number of trials that share a bank."""
    recipe = load_recipe("frozen_mlp").with_overrides({"backbone.standardize": False, "validation.folds": 5})
    images, size = 72, (2000, 1000)
    if options.quick:
        recipe = recipe.with_overrides(
            {
                "view.size": 32,
                "backbone": {"name": "test_efficientnet", "weights": "none"},
                "validation.folds": 2,
                "schedule.epochs": 3,
                "optimizer.head_lr": 0.01,
            }
        )
        images, size = 12, (128, 64)
    with photographs(options, images, width=size[0], height=size[1]) as data:
        dataset = verify(read_train(data))
        # First, and not on `best_device`, which lets the process keep memory that it frees: published code does not.
        plain = plain_loop.train(
            recipe, dataset, MEASURED_EPOCHS, torch.device("cuda" if torch.cuda.is_available() else "cpu")
        )
        device = best_device()
        bank, _ = seconds(lambda: feature_bank(recipe, TrialContext(dataset, device)))
        trial, curves = _forage(recipe, dataset, 1 if options.quick else MEASURED_TRIALS)
    _check(plain.epochs, curves[:MEASURED_EPOCHS], dataset)
    theirs = recipe.epochs * plain.epoch_seconds + plain.tta_seconds
    for shared_by in SHARED_BY:
        ours = bank / shared_by + trial
        yield Row(
            f"frozen-head trials an hour, bank of {bank:.0f} s shared by {shared_by}",
            f"{3600 / ours:,.1f}",
            f"{3600 / theirs:,.2f} (plain loop, same OOF)",
            theirs / ours,
            "frozen_trials",
            at_least=200 if shared_by > 1 else None,
        )


def _forage(recipe: Recipe, dataset: VerifiedDataset, trials: int) -> tuple[float, np.ndarray]:
    """Mean seconds of whole trials, and OOF of every epoch of the first."""

    def run(number: int) -> np.ndarray:
        changed = recipe.with_overrides({"optimizer.head_lr": recipe.optimizer.head_lr * (1 + 0.1 * number)})
        trial = Trial(
            f"t{number:04d}", changed, dataset, SequentialFolds(changed, TrialContext(dataset, best_device()))
        )
        while not trial.done:
            trial.step()
        artifacts.write_finished(folder, trial)
        return np.array(trial.epochs)

    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(scratch)
        taken, curves = seconds(lambda: [run(number) for number in range(trials)])
    return taken / trials, curves[0]


def _check(plain: np.ndarray, ours: np.ndarray, dataset: Dataset) -> None:
    difference = float(np.sqrt(np.mean((plain - ours) ** 2)) / dataset.targets.std())
    if difference > TOLERANCE:
        raise AssertionError(f"the plain loop predicts something else: {difference:.4f} of the truth's spread apart")


if __name__ == "__main__":
    main(measure, __doc__ or "")
