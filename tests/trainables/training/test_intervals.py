"""Interval classifiers: edges, classes and loss by hand, what they train, and that nothing else needs them."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch

from pasture.errors import InputError
from pasture.projection import project
from pasture.verification import VerifiedDataset
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.images import d4
from trainables.network.backbone import create_backbone
from trainables.network.model import Batch, BiomassNet
from trainables.recipe.recipe import Recipe
from trainables.training.classifiers import interval_edges, intervals_loss, intervals_of
from trainables.training.learner import FoldLearner
from trainables.training.losses import Truth
from trainables.training.nets import widths
from trainables.trial.trained_net import trained_net

INTERVALS = {"loss.intervals": {"bins": 4, "weight": 0.3}}


def test_edges_are_quantiles_of_each_target() -> None:
    grams = torch.tensor([0.0, 10, 20, 30, 40])[:, None] * torch.arange(1, 6)
    assert interval_edges(grams, 4)[0].tolist() == [10, 20, 30]
    assert interval_edges(grams, 4)[4].tolist() == [50, 100, 150]
    classes = intervals_of(grams, interval_edges(grams, 4))
    assert classes.shape == (5, 5, 4)
    assert classes.argmax(dim=2).T.tolist() == [[0, 0, 1, 2, 3]] * 5  # an edge belongs to the interval below it
    beyond = intervals_of(torch.tensor([[-3.0, 0, 0, 0, 1000]]), interval_edges(grams, 4))
    assert beyond.argmax(dim=2).tolist() == [[0, 0, 0, 0, 3]]


def test_many_zeros_share_the_lowest_interval() -> None:
    grams = torch.tensor([0.0, 0, 0, 0, 0, 0, 3, 9])[:, None].expand(-1, 5)
    classes = intervals_of(grams, interval_edges(grams, 4)).argmax(dim=2)[:, 0]
    assert classes.tolist() == [0, 0, 0, 0, 0, 0, 3, 3]  # edges 0, 0 and .75: the second and third stay empty
    same = torch.full((3, 5), 7.0)
    assert intervals_of(same, interval_edges(same, 7)).argmax(dim=2).tolist() == [[0] * 5] * 3


def test_the_loss_by_hand() -> None:
    truth = torch.zeros(2, 5, 2)
    truth[0, :, 0] = 1.0
    truth[1, :, 1] = 1.0
    logits = torch.zeros(2, 5, 2)
    logits[0, 0, 0] = math.log(3.0)  # 3 to 1 for the truth; all others 1 to 1
    first = (math.log(4 / 3) + 4 * math.log(2)) / 5
    value = intervals_loss(logits.flatten(1), truth, torch.tensor([0.5, 1.5]))
    assert value.item() == pytest.approx((0.5 * first + 1.5 * math.log(2)) / 2)


def test_mixup_mixes_the_intervals() -> None:
    grams = torch.tensor([[0.0] * 5, [4.0] * 5])
    truth = Truth(grams, torch.ones(2), intervals=intervals_of(grams, torch.full((5, 1), 2.0)))
    mixed = truth.mixed(torch.tensor([1, 0]), 0.75)
    assert mixed.intervals is not None
    assert mixed.intervals[0, 0].tolist() == [0.75, 0.25]
    assert mixed.taught is None


@pytest.mark.parametrize(
    "changes",
    [{}, {"head.kind": "mlp_per_target"}, {"fusion.kind": "late"}, {"target.kind": "scalar"}],
    ids=lambda changes: next(iter(changes), "plain"),
)
def test_the_gradient_reaches_the_hidden_layers_of_the_head(changes: dict[str, Any], frozen_recipe: Recipe) -> None:
    recipe = frozen_recipe.with_overrides({**INTERVALS, "head.hidden": [16, 8], **changes})
    net = BiomassNet(recipe, 12)
    logits = net.outputs(net.embed(Batch(torch.randn(3, 2, 12)))).intervals
    assert logits is not None
    assert logits.shape == (3, 5 * 4)
    truth = intervals_of(torch.rand(3, 5), torch.full((5, 3), 0.5))
    intervals_loss(logits, truth, torch.ones(3)).backward()  # type: ignore[no-untyped-call]
    for network in net.head.networks:
        grads = [p.grad for p in network[:-1].parameters()]  # type: ignore[index]
        assert grads
        assert all(grad is not None and grad.abs().max() > 0 for grad in grads)
        assert network[-1].weight.grad is None  # type: ignore[index]


def test_they_change_the_training_and_are_not_saved(
    either_recipe: Recipe, dataset: VerifiedDataset, cpu: torch.device
) -> None:
    def learner(recipe: Recipe, epochs: int) -> FoldLearner:
        inputs = make_inputs(recipe, TrialContext(dataset, cpu))
        made = FoldLearner(recipe, 0, widths(recipe), inputs, dataset, np.arange(12), cpu)
        for epoch in range(epochs):
            made.train_epoch(epoch, [])
        return made

    recipe = either_recipe.with_overrides(INTERVALS)
    plain, trained = learner(either_recipe, 1), learner(recipe, 1)
    weights = trained.weights()
    assert weights.keys() == plain.weights().keys()
    assert any(not torch.equal(tensor, plain.weights()[name]) for name, tensor in weights.items())

    rows = np.arange(12, 16)
    backbone = trained.net.backbone
    pretrained = create_backbone(recipe.backbone, recipe.view.size).model.state_dict() if backbone else {}
    net = trained_net(recipe, widths(recipe), weights, pretrained)
    assert isinstance(net, BiomassNet)
    assert net.intervals is None
    with torch.inference_mode():
        grams = net.grams(trained.inputs.element(rows, d4.IDENTITY))
    expected = trained.predict(rows, (d4.IDENTITY,))[:, 0]
    assert project(grams.double().numpy()) == pytest.approx(expected, rel=1e-4, abs=1e-3)

    # A checkpoint has them: training goes on as if it had never stopped.
    again = learner(recipe, 0)
    again.load_state(copy.deepcopy(trained.state()))
    for each in (trained, again):
        each.train_epoch(1, [])
    assert all(torch.equal(tensor, again.weights()[name]) for name, tensor in trained.weights().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.kind": "ridge"}, "loss.intervals trains a network; head.kind=ridge needs weight 0"),
        ({"head.hidden": []}, "loss.intervals on a frozen backbone trains the hidden layers of the head"),
        ({"loss.intervals.bins": 1}, "loss.intervals.bins=1"),
    ],
)
def test_where_they_make_no_sense_they_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe().with_overrides({**INTERVALS, **changes})


def test_a_linear_head_on_a_trained_backbone_may_have_them() -> None:
    recipe = Recipe().with_overrides({**INTERVALS, "head.hidden": [], "backbone.tuning": "full"})
    assert BiomassNet(recipe, 6).outputs(torch.randn(2, 1, 6)).intervals.shape == (2, 20)  # type: ignore[union-attr]
