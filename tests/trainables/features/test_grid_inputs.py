"""Cells of a frozen backbone: kept on disk, read for a batch, refused where the disk is too small."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from pasture.errors import JobError
from pasture.verification import VerifiedDataset
from trainables.compute.ranks import Ranks
from trainables.features.context import TrialContext
from trainables.features.feature_bank import feature_bank
from trainables.features.grid_inputs import GridInputs
from trainables.features.inputs import make_inputs
from trainables.images import d4
from trainables.images.array_cache import cache_root
from trainables.images.views import load_views
from trainables.network.backbone import create_backbone
from trainables.recipe.recipe import Recipe
from trainables.trial.preflight import check_recipe

ROWS = np.array([3, 0, 2])


@pytest.fixture
def four(dataset: VerifiedDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VerifiedDataset:
    """Four photographs, with an empty cache."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    return replace(dataset, images=dataset.images.iloc[:4], content="four")


@pytest.fixture
def recipe(frozen_recipe: Recipe) -> Recipe:
    """Cells of a small transformer."""
    return frozen_recipe.with_overrides(
        {"head.kind": "density", "backbone": {"pool": "grid", "name": "test_vit"}, "target.transform": "sqrt"}
    )


def test_the_bank_holds_every_cell(four: VerifiedDataset, recipe: Recipe, cpu: torch.device) -> None:
    bank = feature_bank(recipe, TrialContext(four, cpu))
    assert bank.elements.shape == (4, 8, 2, 4, 64)
    assert bank.elements.dtype == np.float16
    assert isinstance(bank.elements, np.memmap)
    backbone = create_backbone(recipe.backbone, recipe.view.size).eval()
    views = torch.from_numpy(load_views(four.paths[1], recipe.view))
    with torch.inference_mode():
        by_hand = backbone(d4.apply(views, 5)).numpy()
    np.testing.assert_allclose(bank.elements[1, 5], by_hand, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("strength", ["none", "light", "medium"])
def test_batches_are_rows_of_the_bank(four: VerifiedDataset, recipe: Recipe, cpu: torch.device, strength: str) -> None:
    recipe = recipe.with_overrides({"augment": {"strength": strength, "replicas": 3}})
    context = TrialContext(four, cpu)
    bank, inputs = feature_bank(recipe, context), make_inputs(recipe, context)
    assert isinstance(inputs, GridInputs)
    elements = {"none": (0,), "light": d4.FLIPS, "medium": d4.ALL}[strength]
    assert len(inputs.pool) == len(elements) + (3 if strength == "medium" else 0)
    for batch in inputs.training([ROWS] * 8, np.random.default_rng(0)):
        for row, views in zip(ROWS, batch.views.numpy(), strict=True):
            allowed = {bank.elements[row, e].tobytes() for e in elements} | {r.tobytes() for r in bank.replicas[row]}
            assert views.astype(np.float16).tobytes() in allowed
    np.testing.assert_array_equal(inputs.element(ROWS, 6).views, bank.elements[ROWS, 6].astype(np.float32))


def test_ranks_share_a_batch(four: VerifiedDataset, recipe: Recipe, cpu: torch.device) -> None:
    inputs = make_inputs(recipe, TrialContext(four, cpu))
    (whole,) = inputs.training([ROWS], np.random.default_rng(1))
    shares = [next(inputs.training([ROWS], np.random.default_rng(1), Ranks(rank, 4))) for rank in range(4)]
    assert torch.equal(torch.cat([share.views for share in shares]), whole.views)
    assert [len(share.views) for share in shares].count(0) == 1  # three photographs for four processes


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def test_a_disk_without_room_is_refused_before_anything_is_written(
    four: VerifiedDataset, recipe: Recipe, cpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = TrialContext(four, cpu)
    needed = 2 * 4 * 8 * 2 * 4 * 64 * 2  # twice the bytes of the bank
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed - 1))
    with pytest.raises(JobError, match=r"cells of head.kind=density take 6.55e-05 GB.* lower view.size"):
        feature_bank(recipe, context)
    assert not list(cache_root().rglob("*.npy"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed))
    feature_bank(recipe, context)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 0))
    feature_bank(recipe, context)  # it is there: nothing is needed


@pytest.mark.parametrize(
    ("changes", "variants", "size"), [({}, 8, "0.0131"), ({"augment.strength": "heavy"}, 12, "0.0197")]
)
def test_the_space_is_said_before_anything_is_computed(
    recipe: Recipe, changes: dict[str, Any], variants: int, size: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    said = (
        rf"4 cell\(s\) of 64 features for each of 2 view\(s\) in {variants} variants: {size} GB in .*cache of each node"
    )
    with pytest.warns(UserWarning, match=said):
        check_recipe(recipe.with_overrides(changes), [str(i) for i in range(1600)])
    assert not (tmp_path / "cache").exists()
