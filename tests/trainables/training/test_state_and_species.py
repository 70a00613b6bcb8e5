"""State and species as auxiliary losses."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe
from trainables.training.classifiers import species, species_loss, states, states_loss
from trainables.training.losses import Truth, head_losses

IMAGES = pd.DataFrame({"state": ["Vic", "NSW", None, "Vic"], "species": ["Ryegrass_Clover", "Lucerne", None, "Fescue"]})
NAN = [math.nan]


def test_classes_are_those_of_the_images() -> None:
    hot = states(IMAGES)  # NSW, Vic
    np.testing.assert_array_equal(hot, [[0, 1], [1, 0], NAN * 2, [0, 1]])
    tags = species(IMAGES)  # clover (name and group), fescue, grass, legume, lucerne, ryegrass
    expected = [[1, 0, 1, 0, 0, 1], [0, 0, 0, 1, 1, 0], NAN * 6, [0, 1, 1, 0, 0, 0]]
    np.testing.assert_array_equal(tags, expected)
    assert states(IMAGES.iloc[[2]]).shape == (1, 0)


def test_losses_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0], [9.0, 9.0], [math.log(3), 0.0]])
    weights = torch.tensor([1.0, 2.0, 5.0, 1.0])
    # probabilities of the truth: 3/4, 1/2, unknown, 1/4
    expected = (-math.log(0.75) - 2 * math.log(0.5) - math.log(0.25)) / 3
    assert float(states_loss(logits, states(IMAGES), weights)) == pytest.approx(expected)
    truth = torch.tensor([[1.0, 0.0], [math.nan, math.nan]])
    probabilities = species_loss(torch.tensor([[math.log(3), 0.0], [7.0, 7.0]]), truth, weights[:2])
    assert float(probabilities) == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2)
    unknown = states_loss(logits[:1], torch.full((1, 2), math.nan), weights[:1])
    assert float(unknown) == 0


def test_mixed_images_have_shares_of_both() -> None:
    truth = Truth(torch.zeros(4, 5), torch.ones(4), states=states(IMAGES)).mixed(torch.tensor([1, 0, 0, 2]), 0.75)
    assert truth.states is not None
    np.testing.assert_array_equal(truth.states, [[0.25, 0.75], [0.75, 0.25], NAN * 2, NAN * 2])


def test_the_gradient_reaches_the_head_and_the_classifiers_stay_out_of_predictions(frozen_recipe: Recipe) -> None:
    recipe = frozen_recipe.with_overrides({"head.hidden": [8], "loss": {"state": 0.5, "species": 2.0}})
    net = BiomassNet(recipe, 12)
    truth = Truth(torch.zeros(4, 5), torch.ones(4), states=states(IMAGES), species=species(IMAGES))
    net.classify(2, 6)
    outputs = net.outputs(net.embed(Batch(torch.randn(4, 2, 12))))
    assert outputs.states is not None
    assert outputs.species is not None
    value = head_losses(recipe.loss, outputs, truth)
    by_hand = 0.5 * states_loss(outputs.states, truth.states, truth.image_weights)  # type: ignore[arg-type]
    by_hand = by_hand + 2.0 * species_loss(outputs.species, truth.species, truth.image_weights)  # type: ignore[arg-type]
    torch.testing.assert_close(value, by_hand)
    value.backward()  # type: ignore[no-untyped-call]
    assert net.head.networks[0][-4].weight.grad.abs().sum() > 0  # type: ignore[index, union-attr, operator]
    net.drop_training_heads()
    assert not [name for name in net.state_dict() if name.startswith(("states", "species"))]
