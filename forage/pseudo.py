"""Pseudo-labels: a data folder whose unlabelled photographs have a blend's predictions as targets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ensemble.blend.blend import Blend
from ensemble.prediction.predict import predict
from pasture.atomic import atomic_folder
from pasture.dataset import PSEUDO_WEIGHT, Dataset, read_test, read_train
from pasture.errors import InputError
from pasture.sample_ids import join_sample_ids
from pasture.targets import TARGETS, Array
from pasture.verification import verify

LEAK = (
    "the blend's models have seen the labels of all folds, and pseudo-labels carry them into every fold: every OOF "
    "score of models trained on this folder is too high, the nested one too; compare them on the leaderboard or on a "
    "hidden truth"
)
"""Warning for a folder with pseudo-labels, whose leak cannot be avoided."""


def write_pseudo(blend: Blend, data: Path, out: Path, weight: float) -> int:
    """Write a data folder with the labelled photographs of `data` and its test photographs, pseudo-labelled.

    The folder is complete: pictures are hard-linked, or copied if that is impossible, and the test photographs remain
    test photographs too.

    Args:
        blend: predicts, with its own test-time augmentation.
        data: data folder with labelled and test photographs.
        out: folder to write; appears only when complete.
        weight: weight of a pseudo-label, in (0, 1]; that of a measured image is 1.

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
        pseudo = _rows(test.ids, joined, predict(blend, test), weight)
        pd.concat([labelled, pseudo]).to_csv(folder / "train.csv", index=False, lineterminator="\n")
        for table in ("test.csv", "sample_submission.csv"):
            if (data / table).exists():
                shutil.copyfile(data / table, folder / table)
        for name, source in pictures.items():
            _link(source, folder / name)
    return len(test)


def _places(dataset: Dataset) -> list[tuple[str, Path]]:
    """Where each picture lies in its folder, and in full."""
    return list(zip(dataset.images["image_path"], dataset.paths, strict=True))


def _rows(ids: list[str], paths: list[str], grams: Array, weight: float) -> pd.DataFrame:
    """Five rows for each image, without metadata, which were not measured."""
    return pd.DataFrame(
        {
            "sample_id": join_sample_ids(ids),
            "image_path": np.repeat(paths, len(TARGETS)),
            "target_name": [*TARGETS] * len(ids),
            "target": grams.ravel(),
            PSEUDO_WEIGHT: weight,
        }
    )


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()  # the link of a relative link would point nowhere
    try:
        os.link(source, target)
    except OSError:  # another device, a filesystem without hard links, a file of somebody else
        shutil.copyfile(source, target)
