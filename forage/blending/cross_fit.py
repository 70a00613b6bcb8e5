"""Cross-fitted pseudo-labels: the model of fold k learns only from a teacher that has not seen fold k either.

The teacher of fold k is the mean of the members' models of fold k. So a student's out-of-fold predictions stay honest:
neither its own training rows nor its pseudo-labels carry the labels of the images that it holds out. In each further
round, the members are trained on the labels of the round before, and their fold models are the next teachers.

All members count the same: weights that were fitted to out-of-fold predictions would carry the labels of all folds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.prediction.predict import model_predictions
from forage.blending.pseudo import Labels, Teach, write_pseudo
from pasture.dataset import MOST_TEACHERS, Dataset, read_train
from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.projection import project
from pasture.run_folder import RunFolder
from pasture.targets import WEIGHTS, Array
from pasture.verification import verify
from trainables.compute.precision import best_device
from trainables.features.context import TrialContext
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial


def write_cross_fitted(
    blend: Blend, data: Path, out: Path, weight: float, rounds: int, say: Callable[[str], None]
) -> int:
    """Write a data folder with cross-fitted pseudo-labels; see `write_pseudo`.

    Args:
        blend: its members' fold models are the first teachers.
        data: the data folder that they were trained on, with test photographs.
        out: folder to write; appears only when complete.
        weight: largest weight of a pseudo-label; see `agreement`.
        rounds: how often labels are made. Members are trained between rounds, on this machine.
        say: called with the progress.

    Returns:
        Number of pseudo-labelled photographs.

    Raises:
        InputError: members without models of the same folds, other data, or as `write_pseudo`.
        JobError: a training or a prediction fails.
    """
    if not 1 <= rounds <= 10:
        raise InputError(f"--rounds {rounds}: expected 1 to 10")
    folds = _folds(blend)
    with tempfile.TemporaryDirectory(prefix="forage-pseudo-") as scratch:
        for number in range(1, rounds):
            say(f"round {number} of {rounds}: labels, then {len(blend.members)} members trained on them")
            folder = Path(scratch) / f"round{number}"
            write_pseudo(teachers(blend, weight, folds), data, folder / "data", weight)
            blend = _students(blend, folder, say)
        return write_pseudo(teachers(blend, weight, folds), data, out, weight)


def teachers(blend: Blend, weight: float, folds: dict[str, int]) -> Teach:
    """One teacher for each fold: the mean of the members' models of that fold."""

    def teach(train: Dataset, test: Dataset) -> Labels:
        if absent := sorted(set(train.ids) ^ set(folds)):
            raise InputError(
                f"{train.root}: image {absent[0]} is not in both the data and the blend; cross-fitted labels need the "
                "data folder that the blend's members were trained on"
            )
        count = max(folds.values()) + 1
        grams = np.empty((count, len(blend.members), len(test), len(WEIGHTS)))
        for rows, predicted in model_predictions(blend, test):
            by_model = predicted.mean(axis=1)  # (members * folds, rows, 5)
            grams[:, :, rows] = by_model.reshape(len(blend.members), count, *by_model.shape[1:]).swapaxes(0, 1)
        labels = np.stack([project(one) for one in grams.mean(axis=1)])
        return Labels(labels, weight * np.stack([agreement(one) for one in grams]), folds)

    return teach


def agreement(grams: Array) -> Array:
    """(n,) how much labels count, in (0, 1]: 1 where members agree as well as on the median photograph or better, half
    where they are twice as far apart.

    Args:
        grams: (m, n, 5) predictions of the members. Their distance is the standard deviation over members, the root
            mean square over targets by the metric's weights.
    """
    apart = np.sqrt(grams.var(axis=0) @ WEIGHTS)
    usual = float(np.median(apart))
    return np.minimum(1.0, usual / np.maximum(apart, usual)) if usual > 0 else np.ones(len(apart))


def _folds(blend: Blend) -> dict[str, int]:
    """The fold in which the members held each image out.

    Raises:
        InputError: they have no models, or not of the same folds.
    """
    table = OofTable.read(Folder.at(blend.folder), "oof.parquet")
    count = int(table.folds.max(initial=-1)) + 1
    for member in blend.members:
        if member.external:
            raise InputError(f"--cross-fit: member {member.key} was imported and has no models that could be teachers")
        if member.folds == 1:
            raise InputError(
                f"--cross-fit: member {member.key} is one model that has seen all folds; build the blend with "
                "`forage ensemble --no-refit`"
            )
        if member.folds != count or (table.folds < 0).any() or count > MOST_TEACHERS:
            raise InputError(
                f"--cross-fit: the members of {blend.folder} do not have the same folds; build a blend of trials with "
                "one validation.splitter, validation.folds and validation.seed, and validation.repeats 1"
            )
    return dict(zip(table.image_ids, map(int, table.folds), strict=True))


def _students(blend: Blend, folder: Path, say: Callable[[str], None]) -> Blend:
    """The members' recipes, trained on the folds of a data folder with cross-fitted labels."""
    dataset = verify(read_train(folder / "data"))
    run = RunFolder(folder / "run")
    run.write_truth(dataset)
    for number, member in enumerate(blend.members):
        assert member.recipe is not None
        executor = SequentialFolds(member.recipe, TrialContext(dataset, best_device()))
        trial = Trial(f"t{number:04d}", member.recipe, dataset, executor)
        while not trial.done:
            trial.step()
        write_finished(run, trial)
        say(f"  {member.key}: OOF {trial.curve[-1]['score']:.4f}, {member.score:.4f} without these labels")
    return build([run], folder / "blend", blend.tta, "uniform")
