"""Memory that is calculated without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import timm
import torch

from pasture.errors import InputError
from trainables.recipe.recipe import Recipe
from trainables.trial.memory_needs import USABLE, LiveBytes, Needs, extraction_needs, training_needs

TINY = Recipe.parse(
    {
        "view": {"kind": "whole", "size": 32},
        "backbone": {"name": "test_vit", "weights": "none", "tuning": "full"},
        "head": {"hidden": [8]},
        "schedule": {"batch_size": 4},
    }
)


@pytest.fixture(scope="module", autouse=True)
def shallow() -> Iterator[None]:
    """Backbones of two blocks."""
    create = timm.create_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", lambda name, **arguments: create(name, depth=2, **arguments))
        yield


@cache
def needs(**fields: Any) -> Needs:
    found = training_needs(TINY.with_overrides({field.replace("__", "."): value for field, value in fields.items()}))
    assert found is not None
    return found


def test_live_tensors_are_counted_once_and_until_they_die() -> None:
    first = torch.zeros(1000)  # 4000 bytes
    with LiveBytes([first, first.view(10, 100)]) as live:
        assert live.now == 4000
        second = first + 1
        third = second.view(10, 100).t()
        assert live.now == 8000
        del second
        assert live.now == 8000, "the view keeps it alive"
        del third
        assert live.now == 4000
    assert live.peak == 8000


@pytest.mark.heavy
def test_a_trained_parameter_takes_its_weight_gradient_and_two_moments() -> None:
    full = needs()
    assert full.trained == full.parameters > 50_000
    assert full.least >= 16 * full.parameters
    assert full.least < 16 * full.parameters * 1.3
    assert needs(optimizer__ema=0.9).least == full.least + 4 * full.parameters
    lora = needs(backbone__tuning="lora", backbone__lora__rank=1)
    assert lora.trained < full.trained / 10
    assert lora.least < full.least / 2
    chosen = {"rank": 1, "target_modules": ("proj", "mlp"), "blocks": 1}
    last = needs(backbone__tuning="lora", **{f"backbone__lora__{field}": value for field, value in chosen.items()})
    # Of one block instead of two: 64 to 64, 64 to 192 and back in place of 64 to 192; the head is the same.
    assert last.trained - lora.trained == (64 + 64) + 2 * (64 + 192) - 2 * (64 + 192)


@pytest.mark.heavy
def test_activations_grow_with_photographs_and_pixels_and_shrink_with_checkpointing() -> None:
    small, large = needs(), needs(view__size=64)
    assert large.photograph > 3 * small.photograph
    assert (
        needs(view__size=64, backbone__gradient_checkpointing=True).photograph < 0.8 * large.photograph
    )  # of two blocks, one is kept
    assert needs(optimizer__precision="float32").photograph > 1.2 * small.photograph


def test_the_largest_batch_is_the_largest_that_fits() -> None:
    found = Needs(least=900, fixed=500, photograph=100, trained=0, parameters=0)
    assert (found.bytes(1), found.bytes(10)) == (900, 1500)
    assert found.largest_batch(1500 / USABLE + 1e-6) == 10
    assert found.largest_batch(1499 / USABLE) == 9
    assert found.largest_batch(899 / USABLE) == 0


@pytest.mark.heavy
def test_a_frozen_backbone_is_counted_where_features_are_computed() -> None:
    frozen = TINY.with_overrides({"backbone.tuning": "frozen"})
    heads, features = training_needs(frozen), extraction_needs(frozen)
    assert heads is not None
    assert features is not None
    assert heads.parameters < 2_000 < 50_000 < features.parameters
    assert features.photograph < needs().photograph
    assert extraction_needs(TINY) is None
    ridge = TINY.with_overrides({"backbone.tuning": "frozen", "head.kind": "ridge"})
    assert training_needs(ridge) is None
    second = {"backbone": {"semantic": {"name": "test_vit", "weights": "none", "size": 64}}}
    assert extraction_needs(TINY.with_overrides(second)) is not None


def test_the_most_demanding_stage_counts() -> None:
    stages = ({"share": 0.5, "tuning": "frozen"}, {"share": 0.5, "tuning": "full"})
    found = training_needs(TINY.with_overrides({"schedule.stages": stages, "backbone.tuning": "frozen"}))
    assert found == needs()


def test_an_unknown_backbone() -> None:
    with pytest.raises(InputError, match="timm has no such model"):
        needs(backbone__name="resnet81")


def test_a_density_head_on_a_frozen_backbone_reads_cells() -> None:
    found = needs(backbone__tuning="frozen", head__kind="density", backbone__pool="grid", view__size=64)
    assert found.photograph > needs(backbone__tuning="frozen", view__size=64).photograph
