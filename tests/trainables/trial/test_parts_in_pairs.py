"""Parts of a recipe in pairs: each trains a step on a tiny backbone, and is saved, loaded and used to predict."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from pasture.errors import InputError
from pasture.projection import project
from pasture.verification import VerifiedDataset
from trainables.features.context import TrialContext
from trainables.features.inputs import make_inputs
from trainables.images import d4
from trainables.network.backbone import create_backbone
from trainables.recipe.recipe import Recipe
from trainables.training.learner import FoldLearner
from trainables.training.nets import widths
from trainables.trial.preflight import check_recipe
from trainables.trial.trained_net import trained_net

PARTS: dict[str, dict[str, Any]] = {
    "pool": {"backbone.pool": "mean_max_min_gem"},
    "middle_blocks": {"backbone.out_indices": [2, 4]},
    "density": {"head.kind": "density", "backbone.pool": "grid"},
    "intervals": {"loss.intervals": {"bins": 4, "weight": 0.3}},
    "gaussian": {"loss.kind": "gaussian_nll"},
    "r2": {"loss.kind": "r2"},
    "epsilon": {"loss.epsilon": 0.2},
    "classes": {"loss.state": 0.1, "loss.species": 0.1},
    "components": {"target": {"kind": "components", "transform": "sqrt"}},
    "clover": {"target": {"kind": "clover", "transform": "z"}},
    "dead_ratio": {"target": {"kind": "dead_ratio", "transform": "sqrt"}},
    "crops": {"augment": {"crop": 0.5, "shrink": 0.5}},
    "artefacts": {"augment.artefacts": 0.5},
    "late": {"fusion.kind": "late"},
    "film": {"fusion.within": "film"},
    "corners": {"view.kind": "corners"},
    "whole_and_halves": {"view.kind": "whole_and_halves"},
    "terms": {"loss": {"auxiliary": 0.1, "proportions": 0.1, "consistency": 0.1}, "augment.mixup.probability": 1.0},
    "semantic": {"backbone.semantic": {"name": "test_vit", "weights": "none", "size": 32}},
    "full": {"backbone.tuning": "full"},
    "lora": {"backbone.tuning": "lora"},
    "lora_blocks": {"backbone": {"tuning": "lora", "lora": {"target_modules": ["qkv", "proj", "mlp"], "blocks": 2}}},
}
LOCAL, PARTNERS = {"r2", "epsilon", "clover", "crops", "artefacts"}, {"density", "late", "full"}
"""Parts that change one place only, and those that they are paired with."""
REFUSED = {("density", "late"), ("density", "film"), ("gaussian", "epsilon"), ("r2", "epsilon")}
"""Pairs that make no sense; those that set the same field are left out."""
PAIRS = [
    (a, b)
    for a, b in itertools.combinations(PARTS, 2)
    if not PARTS[a].keys() & PARTS[b].keys()
    and (a, b) not in REFUSED
    and not any(one in LOCAL and other not in PARTNERS for one, other in ((a, b), (b, a)))
]
ROWS, HELD = np.arange(0, 8), np.arange(8, 11)


@pytest.fixture(scope="module", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Features are computed once for all pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def recipe_of(*parts: str) -> Recipe:
    """Parts on a small transformer with random weights, for one epoch of one batch."""
    recipe = Recipe().with_overrides(
        {
            "view.size": 32,
            "backbone": {"name": "test_vit", "weights": "none"},
            "head": {"hidden": [8], "dropout": 0.1},
            "schedule": {"epochs": 1, "batch_size": 8, "warmup": 0},
            "optimizer": {"head_lr": 0.01, "backbone_lr": 0.001},
        }
    )
    for part in parts:
        recipe = recipe.with_overrides(PARTS[part])
    return recipe


@pytest.mark.heavy
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
@pytest.mark.filterwarnings("ignore:head.kind=density keeps")
def test_a_pair_trains_a_step_and_is_saved_loaded_and_used(
    pair: tuple[str, str], dataset: VerifiedDataset, cpu: torch.device
) -> None:
    recipe = recipe_of(*pair)
    check_recipe(recipe, dataset.ids)
    inputs, sizes = make_inputs(recipe, TrialContext(dataset, cpu)), widths(recipe)
    learner = FoldLearner(recipe, 0, sizes, inputs, dataset, ROWS, cpu)
    before = learner.weights()
    assert np.isfinite(learner.train_epoch(0, []))
    after = learner.weights()
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items() if name.startswith("head."))
    if recipe.backbone.tuning != "frozen":
        assert any(not torch.equal(t, after[name]) for name, t in before.items() if name.startswith("backbone."))

    state = {} if recipe.banked else create_backbone(recipe.backbone, recipe.view.size).model.state_dict()
    net = trained_net(recipe, sizes, load(save(after)), state)
    with torch.inference_mode():
        grams = torch.stack([net.grams(inputs.element(HELD, element)) for element in (0, 5)], dim=1)
    predicted = learner.predict(HELD, (0, 5))
    assert predicted.shape == (3, 2, 5)
    assert project(grams.double().numpy()) == pytest.approx(predicted, rel=1e-4, abs=1e-3)
    assert np.ptp(learner.predict(HELD, d4.ALL)) > 0


@pytest.mark.parametrize("pair", sorted(REFUSED), ids="+".join)
def test_a_pair_that_makes_no_sense_is_refused_in_one_line(pair: tuple[str, str]) -> None:
    message = "adds up the cells of all views; fusion.kind and" if "density" in pair else "needs it to be 0"
    with pytest.raises(InputError, match=rf"[^\n]*{message}[^\n]*$"):
        recipe_of(*pair)
