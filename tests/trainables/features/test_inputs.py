"""What a network is fed in training and in prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pasture.verification import VerifiedDataset
from trainables.features.context import TrialContext
from trainables.features.feature_bank import feature_bank
from trainables.features.inputs import FeatureInputs, PictureInputs, make_inputs
from trainables.images import d4
from trainables.images.image_cache import cached_views
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import Strength

ROWS = np.array([5, 0, 17])


@pytest.mark.parametrize(
    ("strength", "elements", "copies"),
    [("none", {0}, 0), ("light", set(d4.FLIPS), 0), ("medium", set(range(8)), 2), ("heavy", set(range(8)), 2)],
)
def test_a_frozen_network_is_trained_on_what_its_strength_allows(
    dataset: VerifiedDataset,
    cpu: torch.device,
    frozen_recipe: Recipe,
    strength: Strength,
    elements: set[int],
    copies: int,
) -> None:
    recipe = frozen_recipe.with_overrides({"augment": {"strength": strength, "replicas": 2}})
    inputs = make_inputs(recipe, TrialContext(dataset, cpu))
    assert isinstance(inputs, FeatureInputs)
    bank = feature_bank(recipe, TrialContext(dataset, cpu))
    for row in ROWS:
        allowed = {bank.elements[row, e].tobytes() for e in elements} | {r.tobytes() for r in bank.replicas[row]}
        drawn = next(inputs.training([np.full(200, row)], np.random.default_rng(0))).views
        assert {d.half().numpy().tobytes() for d in drawn} == allowed
        assert len(allowed) == len(elements) + copies
        assert drawn.dtype == torch.float32


def test_features_of_an_element_are_those_of_the_bank(
    dataset: VerifiedDataset, cpu: torch.device, frozen_recipe: Recipe
) -> None:
    inputs = make_inputs(frozen_recipe, TrialContext(dataset, cpu))
    bank = feature_bank(frozen_recipe, TrialContext(dataset, cpu))
    for element in d4.ALL:
        expected = bank.elements[ROWS, element].astype(np.float32)
        assert np.array_equal(inputs.element(ROWS, element).views.numpy(), expected)


def test_a_tuned_network_sees_pictures(dataset: VerifiedDataset, cpu: torch.device, tuned_recipe: Recipe) -> None:
    inputs = make_inputs(tuned_recipe, TrialContext(dataset, cpu))
    assert isinstance(inputs, PictureInputs)
    views = torch.from_numpy(np.array(cached_views(dataset, tuned_recipe.view))[ROWS])
    for element in d4.ALL:
        assert torch.equal(inputs.element(ROWS, element).views, d4.apply(views, element))
    draws = [next(inputs.training([ROWS], np.random.default_rng(seed))).views for seed in (1, 2, 1)]
    assert draws[0].shape == views.shape
    assert torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[1])
    assert torch.equal(inputs.element(ROWS, 0).views, views), "augmentation wrote into the cache"


def test_without_augmentation_a_tuned_network_sees_the_pictures_themselves(
    dataset: VerifiedDataset, cpu: torch.device, tuned_recipe: Recipe
) -> None:
    recipe = tuned_recipe.with_overrides({"augment.strength": "none"})
    inputs = make_inputs(recipe, TrialContext(dataset, cpu))
    assert torch.equal(next(inputs.training([ROWS], np.random.default_rng(0))).views, inputs.element(ROWS, 0).views)
