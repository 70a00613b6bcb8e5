"""Pseudo-labels: a data folder whose unlabelled photographs have a blend's predictions as targets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ensemble.blend.blend import Blend
from ensemble.prediction.predict import predict
from pasture.atomic import atomic_folder
from pasture.dataset import PSEUDO_WEIGHT, TEACHER_FOLD, Dataset, read_test, read_train
from pasture.errors import InputError
from pasture.exclude import link_or_copy
from pasture.sample_ids import join_sample_ids, split_sample_ids
from pasture.targets import TARGETS, Array
from pasture.verification import verify

LEAK = (
    "the blend's models have seen the labels of all folds, and pseudo-labels carry them into every fold: every OOF "
    "score of models trained on this folder is too high, the nested one too; compare them on the leaderboard or on a "
    "hidden truth"
)
"""Warning for a folder with pseudo-labels, whose leak cannot be avoided."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Pseudo-labels of n photographs.

    Attributes:
        grams: (k, n, 5) predictions of k teachers.
        weights: (k, n) in (0, 1].
        folds: for cross-fitted labels, the number of the teacher that has not seen each measured image, by image id;
            empty where there is one teacher, which has seen all of them.
    """

    grams: Array
    weights: Array
    folds: dict[str, int]


Teach = Callable[[Dataset, Dataset], Labels]
"""Labels for the photographs of the second argument, from what was learned from the first."""


def one_teacher(blend: Blend, weight: float) -> Teach:
    """The blend labels with its own test-time augmentation; every label has the same weight."""
    return lambda _, test: Labels(predict(blend, test)[None], np.full((1, len(test)), weight), {})


def write_pseudo(teach: Teach, data: Path, out: Path, weight: float) -> int:
    """Write a data folder with the labelled photographs of `data` and its test photographs, pseudo-labelled.

    The folder is complete: pictures are hard-linked, or copied if that is impossible, and the test photographs remain
    test photographs too. With several teachers, each photograph has a row with the label of each.

    Args:
        teach: makes the labels.
        data: data folder with labelled and test photographs.
        out: folder to write; appears only when complete.
        weight: largest weight of a pseudo-label, in (0, 1]; that of a measured image is 1.

    Returns:
        Number of pseudo-labelled photographs.

    Raises:
        InputError: bad data or weight; a test photograph is labelled already, or would take another's place; `out` is
            not empty or cannot be written.
        JobError: a prediction is not finite.
    """
    if not 0 < weight <= 1:
        raise InputError(f"--weight {weight:g}: expected a number above 0, at most 1 (as much as a measured image)")
    train, test = read_train(data), read_test(data)
    if (train.teacher_folds >= 0).any():
        raise InputError(f"{data}: has cross-fitted pseudo-labels already; give the folder that they were made from")
    if known := sorted(set(train.ids) & set(test.ids)):
        raise InputError(f"{data}: test photograph {known[0]} is in train.csv already; give a folder where it is not")
    joined = [f"train/{PurePosixPath(path).name}" for path in test.images["image_path"]]
    pictures: dict[str, Path] = {}
    for name, source in [*_places(train), *_places(test), *zip(joined, test.paths, strict=True)]:
        if pictures.setdefault(name, source) != source:
            raise InputError(f"{data}: {pictures[name]} and {source} would both become {name}; rename one")
    verify(train)
    verify(test)
    with atomic_folder(out) as folder:
        labelled = pd.read_csv(data / "train.csv", dtype=str, keep_default_na=False)
        labels = teach(train, test)
        pseudo = [_rows(test.ids, joined, labels, teacher) for teacher in range(len(labels.grams))]
        if labels.folds:
            images = split_sample_ids(labelled["sample_id"])["image_id"]
            labelled = labelled.assign(**{TEACHER_FOLD: images.map(labels.folds).astype(str)})
        pd.concat([labelled, *pseudo]).to_csv(folder / "train.csv", index=False, lineterminator="\n")
        for table in ("test.csv", "sample_submission.csv"):
            if (data / table).exists():
                shutil.copyfile(data / table, folder / table)
        for name, source in pictures.items():
            link_or_copy(source, folder / name)
    return len(test)


def _places(dataset: Dataset) -> list[tuple[str, Path]]:
    """Where each picture lies in its folder, and in full."""
    return list(zip(dataset.images["image_path"], dataset.paths, strict=True))


def _rows(ids: list[str], paths: list[str], labels: Labels, teacher: int) -> pd.DataFrame:
    """Five rows for each image with the labels of one teacher, without metadata, which were not measured."""
    crossed = {TEACHER_FOLD: str(teacher)} if labels.folds else {}
    return pd.DataFrame(
        {
            "sample_id": join_sample_ids([f"{i}-teacher{teacher}" if crossed else i for i in ids]),
            "image_path": np.repeat(paths, len(TARGETS)),
            "target_name": [*TARGETS] * len(ids),
            "target": labels.grams[teacher].ravel(),
            PSEUDO_WEIGHT: np.repeat(labels.weights[teacher], len(TARGETS)),
        }
        | crossed
    )
