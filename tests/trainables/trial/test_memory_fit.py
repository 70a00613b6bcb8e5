"""Fitting a recipe into the memory of a GPU."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pasture.verification import VerifiedDataset
from trainables.features.context import TrialContext
from trainables.recipe.recipe import Recipe
from trainables.trial import fold_executor, memory_fit, refit
from trainables.trial.fold_executor import SequentialFolds
from trainables.trial.memory_fit import Fitted, best_way, fitted, ways
from trainables.trial.memory_needs import Needs

GB = 2**30
CUDA = torch.device("cuda")
TRAINED = Recipe().with_overrides(
    {"backbone.tuning": "full", "schedule.batch_size": 16, "optimizer.fit_memory": True, "head.hidden": [8]}
)


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GPU of 10 GB of which 9 are usable, and a recipe that needs 2 GB and 1 GB a photograph, or half of it."""

    def training(recipe: Recipe) -> Needs | None:
        photograph = GB // 2 if recipe.backbone.gradient_checkpointing else GB
        return Needs(3 * GB, 2 * GB, photograph, 1000, 1000) if recipe.neural else None

    properties = SimpleNamespace(total_memory=10 * GB)
    monkeypatch.setattr(memory_fit, "training_needs", training)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return properties


def test_the_way_of_the_recipe_comes_first() -> None:
    for checkpointing, batches in [(False, [7, 14]), (True, [14, 7])]:
        recipe = TRAINED.with_overrides({"backbone.gradient_checkpointing": checkpointing})
        found = ways(recipe, 10 * GB)
        assert [way.batch for way in found] == batches
        assert found[0].recipe == recipe


def test_checkpointing_only_where_a_batch_does_not_fit_without() -> None:
    seven = best_way(ways(TRAINED.with_overrides({"schedule.batch_size": 7}), 10 * GB))
    eight = best_way(ways(TRAINED.with_overrides({"schedule.batch_size": 8}), 10 * GB))
    assert seven is not None
    assert eight is not None
    assert not seven.recipe.backbone.gradient_checkpointing
    assert eight.recipe.backbone.gradient_checkpointing
    assert best_way(ways(TRAINED, 3 * GB)) is None
    assert ways(TRAINED.with_overrides({"backbone.tuning": "frozen", "head.kind": "ridge"}), 10 * GB) == []


def test_a_batch_is_cut_into_nearly_equal_parts_that_fit(gpu: SimpleNamespace) -> None:
    checkpointed = TRAINED.with_overrides({"backbone.gradient_checkpointing": True})
    assert fitted(TRAINED, CUDA) == Fitted(checkpointed, 8)  # 14 fit: 8 and 8, not 14 and 2
    gpu.total_memory = 30 * GB
    assert fitted(TRAINED, CUDA) == Fitted(TRAINED, 16)


@pytest.mark.parametrize("fields", [{"optimizer.fit_memory": False}, {"backbone.tuning": "frozen"}])
def test_other_recipes_and_devices_are_left_alone(fields: dict[str, object], cpu: torch.device) -> None:
    recipe = TRAINED.with_overrides(fields)
    assert fitted(recipe, CUDA) == Fitted(recipe, 16)
    assert fitted(TRAINED, cpu) == Fitted(TRAINED, 16)


def test_where_nothing_fits_one_photograph_is_tried(gpu: SimpleNamespace) -> None:
    gpu.total_memory = 3 * GB
    with pytest.warns(UserWarning, match="by calculation not even one photograph fits into 3 GB"):
        recipe, at_a_time = fitted(TRAINED, CUDA)
    assert (recipe.backbone.gradient_checkpointing, at_a_time) == (True, 1)
    gpu.total_memory = 10 * GB
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted(TRAINED, CUDA)


def test_parts_of_a_batch_change_nothing_but_the_memory(
    dataset: VerifiedDataset, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = TRAINED.with_overrides(
        {
            "view": {"kind": "whole", "size": 32},
            "backbone": {"name": "test_vit", "weights": "none"},
            "head.dropout": 0,
            "augment.strength": "none",
            "schedule": {"epochs": 1, "batch_size": 16},
            "validation": {"splitter": "group", "folds": 2},
        }
    )
    context, weights = TrialContext(dataset, cpu), []
    for changes, parts in [({}, 16), ({"backbone.gradient_checkpointing": True}, 3)]:
        answer = Fitted(recipe.with_overrides(changes), parts)
        monkeypatch.setattr(fold_executor, "fitted", lambda recipe, device, answer=answer: answer)
        monkeypatch.setattr(refit, "fitted", lambda recipe, device, answer=answer: answer)
        folds = SequentialFolds(recipe, context, folds=[0])
        assert folds.train(0, [])[0].micro_batch == parts
        assert folds.learners[0].recipe == answer.recipe
        weights.append((folds.learners[0].weights(), refit.train_on_all(recipe, context, 1, [])))
    for whole, in_parts in zip(*weights, strict=True):
        for name, tensor in whole.items():
            np.testing.assert_allclose(in_parts[name], tensor, rtol=1e-3, atol=2e-5)
