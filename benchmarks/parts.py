"""What parts of a recipe are worth on dates that no model has seen, in one process without Ray.

    python benchmarks/parts.py DATA --out FOLDER RECIPE [RECIPE ...] [--splits 4] [--groups N] [--pseudo ROUNDS]
    python benchmarks/parts.py DATA --out FOLDER frozen_mlp benchmarks/part_recipes/*.yaml --pseudo 2

Dates are divided into groups as by `forage outer-cv`. Without each group, every recipe is trained on its folds, and
the mean of the models of its folds, under all elements of D4, predicts the group. The table compares each recipe, and
the plain mean of the first recipe and each other one, with the first: R2 over all dates and its difference, with
standard errors by the jackknife over dates. With --pseudo, the first recipe is also trained with cross-fitted
pseudo-labels of the test photographs, whose teachers have not seen the group either. What is finished is kept in
FOLDER, so that the same command continues. --groups takes the first groups only, for a first look.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ensemble.blend.build import build
from ensemble.prediction.predict import predict
from forage.blending.cross_fit import write_cross_fitted
from forage.outer_cv.dates import deal_dates
from pasture.dataset import Dataset, read_train
from pasture.exclude import write_without
from pasture.metric import weighted_r2
from pasture.projection import project
from pasture.run_folder import RunFolder
from pasture.targets import Array
from pasture.verification import verify
from search_spaces.catalogue import load_recipe
from trainables.compute.precision import best_device
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial.artifacts import write_finished
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.trial import Trial

PSEUDO = "pseudo-labels"


def trained(recipe: Recipe, data: Path, run: RunFolder) -> None:
    """Train a recipe on the folds of a data folder and write its files into a run directory."""
    dataset = verify(read_train(data))
    run.write_truth(dataset)
    trial = Trial("t0000", recipe, dataset, SequentialFolds(recipe, TrialContext(dataset, best_device())))
    while not trial.done:
        trial.step()
    write_finished(run, trial)


def predicted(recipe: Recipe, dataset: Dataset, outer: Sequence[str], rounds: int = 0) -> Array:
    """(n, 5) in grams of the photographs of the outer dates, by models that have not seen these dates.

    Args:
        recipe: what to train.
        dataset: all labelled photographs.
        outer: the dates.
        rounds: of cross-fitted pseudo-labels; 0 for none.
    """
    held = np.isin(dataset.dates, outer)
    with tempfile.TemporaryDirectory(prefix="forage-parts-") as scratch:
        folder = Path(scratch)
        write_without(dataset.root, list(dataset.images.index[held]), folder / "data")
        trained(recipe, folder / "data", RunFolder(folder / "run"))
        blend = build([RunFolder(folder / "run")], folder / "blend", "d4", "uniform")
        if rounds:
            write_cross_fitted(blend, folder / "data", folder / "pseudo", 1.0, rounds, lambda line: None)
            trained(recipe, folder / "pseudo", RunFolder(folder / "students"))
            blend = build([RunFolder(folder / "students")], folder / "taught", "d4", "uniform")
        return predict(blend, dataclasses.replace(dataset, images=dataset.images[held]))


def compared(truth: Array, dates: np.ndarray, first: Array, other: Array) -> tuple[float, float, float, float]:
    """R2 of other predictions, its standard error, the difference to the first and its standard error, by the jackknife
    over dates."""
    each = sorted(set(dates.tolist()))
    left = np.array([[weighted_r2(truth[dates != d], p[dates != d]) for d in each] for p in (first, other)])
    score, difference = weighted_r2(truth, other), weighted_r2(truth, other) - weighted_r2(truth, first)
    errors = [
        float(np.sqrt((len(each) - 1) / len(each) * ((v - v.mean()) ** 2).sum())) for v in (left[1], left[1] - left[0])
    ]
    return score, errors[0], difference, errors[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--groups", type=int)
    parser.add_argument("--pseudo", type=int, default=0)
    asked = parser.parse_args(arguments)
    dataset = verify(read_train(asked.data))
    jobs = {Path(name).stem: (load_recipe(name), 0) for name in asked.recipes}
    first = next(iter(jobs))
    if asked.pseudo:
        jobs[PSEUDO] = (jobs[first][0], asked.pseudo)
    asked.out.mkdir(exist_ok=True)
    grams = {name: np.zeros_like(dataset.targets) for name in jobs}
    groups = deal_dates(dataset, asked.splits, 0)[: asked.groups]
    for number, outer in enumerate(groups):
        for name, (recipe, rounds) in jobs.items():
            file = asked.out / f"{name}-{recipe.hash}-{number}.npy"
            if not file.exists():
                np.save(file, predicted(recipe, dataset, outer, rounds))
            grams[name][np.isin(dataset.dates, outer)] = np.load(file)
    known = np.isin(dataset.dates, [date for outer in groups for date in outer])
    rows = dict(grams) | {
        f"mean of {first} and {name}": project((grams[first] + other) / 2)
        for name, other in grams.items()
        if name != first
    }
    print("| recipe | outer R2 | error | difference | error |\n|---|---|---|---|---|")
    for name, other in rows.items():
        score, error, difference, paired = compared(
            dataset.targets[known], dataset.dates[known], grams[first][known], other[known]
        )
        print(f"| {name} | {score:.3f} | {error:.3f} | {difference:+.3f} | {paired:.3f} |")


if __name__ == "__main__":
    main()
