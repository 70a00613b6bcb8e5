"""Pseudo-labels in training: they count by their weight, and their metadata may be missing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from pasture.targets import TARGETS
from pasture.verification import VerifiedDataset
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.fitted.learner import FittedLearner
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import LabelSmoothing
from trainables.recipe.seeds import mix
from trainables.training.lds import image_weights, lds_weights
from trainables.training.learner import FoldLearner
from trainables.training.metadata import species_tags, standardise, teacher_inputs
from trainables.training.nets import widths
from trainables.training.teacher import teach

MEASURED = np.arange(12)
ALL = np.arange(24)
PLAIN = {
    "augment.strength": "none",
    "head": {"hidden": [], "dropout": 0},
    "target.transform": "none",
    "schedule": {"batch_size": 32, "epochs": 6},
}
"""Every batch is the whole fold and nothing is drawn at random, so that only labels and weights make a difference."""

MakeLearner = Callable[..., FoldLearner]


def pseudo_labelled(dataset: VerifiedDataset, weight: float) -> VerifiedDataset:
    """All but the `MEASURED` rows pseudo-labelled, with the truth of the measured ones turned round.

    That leaves the mean of the training targets, from which a head starts, where it was.
    """
    images = dataset.images.copy()
    pseudo = images.index[~np.isin(ALL, MEASURED)]
    images.loc[pseudo, list(TARGETS)] = dataset.targets[MEASURED][::-1]
    images.loc[pseudo, ["state", "species"]] = ""
    images.loc[pseudo, ["ndvi", "height_cm"]] = np.nan
    images.loc[pseudo, "date"] = pd.NaT
    images.loc[pseudo, "pseudo_weight"] = weight
    return replace(dataset, images=images)


@pytest.fixture
def trained(frozen_recipe: Recipe, cpu: torch.device) -> Callable[..., FoldLearner]:
    """`trained(dataset, rows=ALL, **overrides)`: a learner after all its epochs."""

    def train(dataset: VerifiedDataset, rows: np.ndarray = ALL, **overrides: object) -> FoldLearner:
        recipe = frozen_recipe.with_overrides(PLAIN | overrides)
        inputs = make_inputs(recipe, TrialContext(dataset, cpu))
        learner = FoldLearner(recipe, 0, widths(recipe), inputs, dataset, rows, cpu)
        for epoch in range(recipe.epochs):
            learner.train_epoch(epoch, [])
        return learner

    return train


def test_image_weights_are_lds_times_pseudo_weights_with_mean_1() -> None:
    totals = np.array([10.0, 11, 12, 50, 90])
    pseudo = np.array([1.0, 0.5, 1, 0.2, 1])
    config = LabelSmoothing(enabled=True)
    product = lds_weights(totals, config) * pseudo
    np.testing.assert_allclose(image_weights(totals, pseudo, config), product / product.mean())
    np.testing.assert_allclose(image_weights(totals, pseudo, LabelSmoothing()), pseudo / 0.74)
    np.testing.assert_array_equal(image_weights(totals, np.ones(5), LabelSmoothing()), np.ones(5))


@pytest.mark.parametrize("overrides", [{}, {"loss.proportions": 1.0}, {"loss.kind": "mse", "loss.mse_share": 1.0}])
def test_pseudo_labels_of_no_weight_change_nothing_and_of_weight_1_much(
    trained: MakeLearner, dataset: VerifiedDataset, overrides: dict[str, object]
) -> None:
    without = trained(dataset, MEASURED, **overrides).predict(ALL, (0,))
    tiny = trained(pseudo_labelled(dataset, 1e-6), **overrides).predict(ALL, (0,))
    full = trained(pseudo_labelled(dataset, 1.0), **overrides).predict(ALL, (0,))
    np.testing.assert_allclose(tiny, without, atol=1e-2)
    assert np.abs(full - without).max() > 1


def test_pseudo_weights_reach_a_fitted_model(
    dataset: VerifiedDataset, frozen_recipe: Recipe, cpu: torch.device
) -> None:
    recipe = frozen_recipe.with_overrides({"head.kind": "ridge"})
    inputs = make_inputs(recipe, TrialContext(dataset, cpu))

    def predicted(weight: float, factor: float) -> np.ndarray:
        data = pseudo_labelled(dataset, weight)
        data.images.iloc[12:, data.images.columns.get_indexer(pd.Index(TARGETS))] *= factor
        learner = FittedLearner(recipe, 0, widths(recipe), inputs, data, ALL, cpu)
        learner.train_epoch(0, [])
        return learner.predict(MEASURED, (0,))

    np.testing.assert_allclose(predicted(1e-6, 1), predicted(1e-6, 2), atol=0.1)
    assert np.abs(predicted(1, 1) - predicted(1, 2)).max() > 1


def test_the_teacher_is_fitted_to_measured_images_and_repeats_pseudo_labels(
    trained: MakeLearner, dataset: VerifiedDataset
) -> None:
    pseudo = pseudo_labelled(dataset, 0.5)
    learner = trained(pseudo, **{"loss.distillation": 0.5, "schedule": {"epochs": 1}})
    taught = learner.truth.taught
    assert taught is not None
    expected = teach(pseudo.images, pseudo.targets, MEASURED, mix(learner.recipe.seed, 0))
    np.testing.assert_array_equal(taught[MEASURED], expected)
    np.testing.assert_allclose(taught[12:], pseudo.targets[12:], rtol=1e-6)


def test_the_auxiliary_loss_passes_over_what_was_not_measured(trained: MakeLearner, dataset: VerifiedDataset) -> None:
    learner = trained(pseudo_labelled(dataset, 0.5), **{"loss.auxiliary": 0.5, "augment.mixup.probability": 1.0})
    assert learner.truth.metadata is not None
    assert learner.truth.metadata[12:].isnan().all()
    assert all(tensor.isfinite().all() for tensor in learner.weights().values())


def test_missing_metadata_are_nan_or_no_tags_without_a_warning(dataset: VerifiedDataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs = teacher_inputs(pseudo_labelled(dataset, 0.5).images)
    assert species_tags("") == set()
    assert np.isnan(inputs[12:, :5]).all()
    assert (inputs[12:, 5:] == 0).all()
    assert np.isfinite(standardise(inputs, ALL)[:12]).all()
