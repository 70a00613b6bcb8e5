"""Members of a finished sweep, trained again on all dates that the sweep has seen, as `forage ensemble` does it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ensemble.members.pool import Member
from forage.outer_cv.run_sweeps import OuterRun
from pasture.dataset import Dataset
from pasture.folds import OUTER
from pasture.oof import OofTable
from pasture.verification import verify
from trainables.compute.precision import best_device
from trainables.features.context import TrialContext
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.trial.refit import learner_on_all


def refit_members(outer_run: OuterRun, dataset: Dataset, members: Iterable[Member]) -> bool:
    """Write what each member predicts for the outer dates when it is one model of all other images.

    Nothing is written where a recipe trains its backbone: to train that again costs as much as a fold of the sweep.
    Predictions that an earlier call has written are kept.

    Args:
        outer_run: the sweep.
        dataset: labelled images, those of outer dates included.
        members: to train.

    Returns:
        Whether all members have such predictions.

    Raises:
        JobError: a loss is not finite, or the folder cannot be written.
    """
    recipes = {member: Recipe.parse(member.recipe, member.key) for member in members}
    if not all(recipe.banked for recipe in recipes.values()):
        return False
    run = outer_run.run
    missing = [member for member in recipes if not run.refitted.exists(f"{member.trial}.parquet")]
    if not missing:
        return True
    held = verify(dataset.hold_out(outer_run.outer), any(recipes[member].needs_pictures for member in missing))
    ids = OofTable.read(run.outer, f"{missing[0].trial}.parquet").image_ids
    row = {image: i for i, image in enumerate(held.ids)}
    rows = np.array([row[image] for image in ids])
    context = TrialContext(held, best_device())
    for member in missing:
        learner = learner_on_all(recipes[member], context, member.epoch + 1, member.curve)
        metadata = {"trial": member.trial, "recipe_hash": member.recipe_hash}
        table = OofTable(ids, np.full(len(rows), OUTER, np.int8), learner.predict(rows, d4.ALL), metadata)
        table.write(run.refitted, f"{member.trial}.parquet")
    return True
