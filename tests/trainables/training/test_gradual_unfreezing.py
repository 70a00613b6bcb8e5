"""Stages that train more and more of the last blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pasture.errors import InputError
from pasture.verification import VerifiedDataset
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.network.backbone import create_backbone
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths
from trainables.trial.preflight import check_recipe
from trainables.trial.trained_net import trained_net

ROWS = np.arange(12)


def staged(*stages: dict[str, Any]) -> dict[str, Any]:
    """Stages of one epoch each."""
    whole = [{"share": 1 / len(stages), "backbone_lr": 0.01, **stage} for stage in stages]
    return {"backbone.name": "test_vit", "schedule": {"epochs": len(stages), "warmup": 0, "stages": whole}}


def test_each_stage_trains_its_blocks_and_the_weights_hold_all(
    frozen_recipe: Recipe, dataset: VerifiedDataset, cpu: torch.device
) -> None:
    stages = ({"tuning": "frozen"}, {"tuning": "last_blocks", "blocks": 1}, {"tuning": "last_blocks", "blocks": 3})
    recipe = frozen_recipe.with_overrides(staged(*stages))
    check_recipe(recipe, dataset.ids)
    inputs = make_inputs(recipe, TrialContext(dataset, cpu))
    learner = FoldLearner(recipe, 0, widths(recipe), inputs, dataset, ROWS, cpu)
    moved = []
    for epoch in range(3):
        before = {name: tensor.clone() for name, tensor in learner.net.state_dict().items()}
        learner.train_epoch(epoch, [])
        changed = {name for name, tensor in learner.net.state_dict().items() if not torch.equal(tensor, before[name])}
        moved.append({int(name.split(".")[3]) for name in changed if name.startswith("backbone.model.blocks.")})
    assert moved == [set(), {5}, {3, 4, 5}]  # of six blocks

    weights = learner.weights()
    assert {int(n.split(".")[3]) for n in weights if n.startswith("backbone.model.blocks.")} == {3, 4, 5}
    pretrained = create_backbone(recipe.backbone, recipe.view.size).model.state_dict()
    net = trained_net(recipe, widths(recipe), weights, pretrained)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, learner.net.state_dict()[name]), name


@pytest.mark.parametrize("tuning", ["frozen", "full", "lora"])
def test_blocks_go_with_last_blocks_only(tuning: str) -> None:
    with pytest.raises(InputError, match=rf"blocks=2 needs tuning=last_blocks, not {tuning}$"):
        Recipe().with_overrides(staged({"tuning": tuning, "blocks": 2}))


def test_more_blocks_than_there_are_are_refused_before_training(frozen_recipe: Recipe) -> None:
    recipe = frozen_recipe.with_overrides(staged({"tuning": "frozen"}, {"tuning": "last_blocks", "blocks": 50}))
    with pytest.raises(InputError, match=r"schedule.stages: blocks=50: test_vit has"):
        check_recipe(recipe, [])
