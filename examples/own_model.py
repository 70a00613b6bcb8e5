"""Blend a model of your own with the trials of a sweep: python examples/own_model.py [DATA] [RUN], after sweep.py.

Any model will do that predicts photographs of dates that it was not trained on: here a ridge regression on colours.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict

import forage


def colours(picture: Path) -> np.ndarray:
    """How much of a picture has each of 64 colours: (64,)."""
    pixels = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    return np.histogramdd(pixels, bins=4, range=[(0, 256)] * 3)[0].ravel() / len(pixels)


def main(data: Path, path: str) -> None:
    """Train the model on folds of dates, import its out-of-fold predictions, blend them with a run."""
    truth = forage.load_run(path).truth
    dates, targets = truth.pop("date"), truth
    features = np.stack([colours(data / "train" / f"{image}.jpg") for image in targets.index])
    split = list(GroupKFold(3).split(features, groups=dates))
    predicted = cross_val_predict(Ridge(alpha=0.01), features, targets, cv=split).clip(min=0)
    folds = np.zeros(len(targets), dtype=int)
    for fold, (_, held_out) in enumerate(split):
        folds[held_out] = fold
    pd.DataFrame(predicted, index=targets.index, columns=targets.columns).to_csv("own.csv")
    pd.Series(folds, index=targets.index, name="fold").to_csv("own_folds.csv")

    own = forage.import_members(["own.csv"], data / "train.csv", name="own", folds="own_folds.csv")
    print(own.trials)
    blend = forage.build([path, own], "blend-own", method="shrunk", refit=False)
    print(blend.members)


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data")
    main(folder, sys.argv[2] if len(sys.argv) > 2 else "runs/sweep")
