"""Pseudo-labels: a data folder whose unlabelled photographs carry what a blend predicts for them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ensemble.blend.blend import Blend
from ensemble.blend.predict import predict
from pasture.atomic import atomic_folder
from pasture.dataset import PSEUDO_WEIGHT, Dataset, read_test, read_train
from pasture.errors import InputError
from pasture.sample_ids import join_sample_ids
from pasture.targets import TARGETS, Array
from pasture.verification import verify

LEAK = (
    "pseudo-labels carry what the blend's models learned from the labels of all folds: every OOF score of models that "
    "are trained on them flatters, the nested one too; compare such models on the leaderboard or on a hidden truth"
)
"""What is said to whoever makes such a folder: the leak is there by construction."""


def write_pseudo(blend: Blend, data: Path, out: Path, weight: float) -> int:
    """Write a data folder in which the test photographs of `data` join the labelled ones as pseudo-labelled.

    The folder is whole by itself: pictures are hard-linked, or copied where that cannot be, and the test photographs
    stay test photographs too.

    Args:
        blend: what predicts, with its own test-time augmentation.
        data: data folder with labelled and test photographs.
        out: folder to write; appears only when complete.
        weight: how much a pseudo-label counts beside a measured image, in (0, 1].

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
    """Five rows an image, without metadata: nobody has measured any."""
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
