"""`backbone.standardize`: which features are standardised, by which rows, and that the statistics are saved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pasture.verification import VerifiedDataset
from trainables.features import embeddings
from trainables.features.context import TrialContext
from trainables.features.inputs import FeatureInputs, make_inputs
from trainables.images import d4
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import create_net, widths
from trainables.trial.trained_net import trained_net

ROWS, HELD = np.arange(16), np.arange(16, 24)
SEMANTIC = {"name": "test_vit", "weights": "none", "size": 32}


def _learner(recipe: Recipe, dataset: VerifiedDataset, cpu: torch.device, inputs: Any = None) -> FoldLearner:
    inputs = inputs or make_inputs(recipe, TrialContext(dataset, cpu))
    return FoldLearner(recipe, 0, widths(recipe), inputs, dataset, ROWS, cpu)


def _standardised(inputs: FeatureInputs, reduced: bool = False) -> FeatureInputs:
    """The same features, standardised by hand; `reduced`: by the spread of their means over views."""
    features = inputs.elements[torch.from_numpy(ROWS)].double()
    flat = (features.mean(dim=2) if reduced else features).flatten(0, -2)
    mean, std = flat.mean(dim=0), flat.std(dim=0, correction=0)
    inputs.elements, inputs.pool = ((part.double() - mean) / std for part in (inputs.elements, inputs.pool))
    return inputs


@pytest.mark.parametrize("changes", [{}, {"augment.mixup.probability": 1.0}, {"backbone.semantic": SEMANTIC}])
def test_it_is_training_on_standardised_features(
    frozen_recipe: Recipe, dataset: VerifiedDataset, cpu: torch.device, changes: dict[str, Any]
) -> None:
    recipe = frozen_recipe.with_overrides(changes)
    learner = _learner(recipe, dataset, cpu)
    plain = recipe.with_overrides({"backbone.standardize": False})
    inputs = make_inputs(plain, TrialContext(dataset, cpu))
    assert isinstance(inputs, FeatureInputs)
    if inputs.semantic is not None:
        _standardised(inputs.semantic, reduced=True)
    by_hand = _learner(plain, dataset, cpu, _standardised(inputs))
    without = _learner(plain, dataset, cpu)
    for epoch in range(2):
        loss = by_hand.train_epoch(epoch, [])
        assert learner.train_epoch(epoch, []) == pytest.approx(loss, rel=1e-4)
        without.train_epoch(epoch, [])
    predicted = learner.predict(HELD, d4.ALL)
    np.testing.assert_allclose(predicted, by_hand.predict(HELD, d4.ALL), rtol=1e-3)
    assert np.abs(predicted / without.predict(HELD, d4.ALL) - 1).max() > 0.01


def test_held_out_and_pseudo_labelled_rows_do_not_count(
    frozen_recipe: Recipe, dataset: VerifiedDataset, cpu: torch.device
) -> None:
    learner = _learner(frozen_recipe, dataset, cpu)
    inputs = make_inputs(frozen_recipe, TrialContext(dataset, cpu))
    assert isinstance(inputs, FeatureInputs)
    inputs.elements[HELD] += 100
    inputs.elements[:3] -= 100
    images = dataset.images.assign(pseudo_weight=np.nan)
    images.iloc[:3, images.columns.get_loc("pseudo_weight")] = 0.5
    changed = _learner(frozen_recipe, replace(dataset, images=images), cpu, inputs)
    few = FoldLearner(frozen_recipe, 0, widths(frozen_recipe), learner.inputs, dataset, ROWS[3:], cpu)
    assert torch.equal(changed.net.standardize.mean, few.net.standardize.mean)  # type: ignore[union-attr]
    assert not torch.equal(learner.net.standardize.mean, few.net.standardize.mean)  # type: ignore[union-attr]


def test_statistics_are_saved_with_the_weights(
    frozen_recipe: Recipe, dataset: VerifiedDataset, cpu: torch.device
) -> None:
    recipe = frozen_recipe.with_overrides({"backbone.semantic": SEMANTIC})
    learner = _learner(recipe, dataset, cpu)
    learner.train_epoch(0, [])
    weights = learner.weights()
    assert {"standardize.mean", "standardize.std", "standardize_semantic.std"} < weights.keys()
    net = trained_net(recipe, widths(recipe), weights, {})
    with torch.inference_mode():
        grams = net.grams(learner.inputs.element(HELD, 3))
        torch.testing.assert_close(grams, learner.net.eval().grams(learner.inputs.element(HELD, 3)))


def test_imported_embeddings_are_standardised(dataset: VerifiedDataset, cpu: torch.device) -> None:
    values = np.random.default_rng(0).normal(7.0, 3.0, size=(len(dataset), 5))
    embeddings.write("standardised", dataset.ids, values)
    recipe = Recipe().with_overrides({"backbone.name": "bank:standardised", "view.kind": "whole"})
    standardizer = _learner(recipe, dataset, cpu).net.standardize
    assert standardizer is not None
    expected = values[ROWS].astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(standardizer.mean, expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(standardizer.std, expected.std(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (True, False)),
        ({"backbone.standardize": False, "backbone.semantic": SEMANTIC}, (False, False)),
        ({"backbone.tuning": "full"}, (False, False)),
        ({"backbone.tuning": "full", "backbone.semantic": SEMANTIC}, (False, True)),
    ],
)
def test_what_is_standardised(frozen_recipe: Recipe, changes: dict[str, Any], expected: tuple[bool, bool]) -> None:
    recipe = frozen_recipe.with_overrides(changes)
    net = create_net(recipe, widths(recipe))
    assert (net.standardize is not None, net.standardize_semantic is not None) == expected
