"""Presets on small backbones with random weights."""

from __future__ import annotations

from typing import Any

from search_spaces.catalogue import load_recipe
from trainables.recipe.recipe import Recipe

NARROW: dict[str, dict[str, Any]] = {
    "vit_base_patch14_dinov2.lvd142m": {"embed_dim": 24, "num_heads": 2},
    "vit_large_patch14_dinov2.lvd142m": {"embed_dim": 24, "num_heads": 2},
    "vit_small_patch14_dinov2.lvd142m": {"embed_dim": 24, "num_heads": 2},
    "vit_base_patch16_dinov3": {"embed_dim": 24, "num_heads": 2},
    "vit_large_patch16_dinov3.lvd1689m": {"embed_dim": 24, "num_heads": 2},
    "vit_huge_plus_patch16_dinov3.lvd1689m": {"embed_dim": 24, "num_heads": 2},
    "vit_so400m_patch16_siglip_512.v2_webli": {"embed_dim": 24, "num_heads": 2},
    "vit_so400m_patch14_siglip_384": {"embed_dim": 24, "num_heads": 2, "depth": 2},
    "swin_large_patch4_window7_224": {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
    "convnext_large.fb_in22k_ft_in1k": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
}
"""The same architectures, narrower: every block that a preset out_indices or trains is there."""

SMALL = {"tf_efficientnetv2_m": "test_efficientnet", "efficientnet_b4.ra2_in1k": "test_efficientnet"}
"""Whose width cannot be given: a small one of the family instead."""


def small(name: str, **more: Any) -> Recipe:
    """A preset on a small backbone with random weights, for two epochs of two folds."""
    recipe = load_recipe(name)
    backbone, semantic = recipe.backbone.name, recipe.backbone.semantic.name
    changes: dict[str, Any] = {"schedule.epochs": 2, "validation.folds": 2, "augment.replicas": 1}
    if recipe.backbone.weights == "hub":  # the others have their weights in a package, and are small
        changes |= {"backbone.name": SMALL.get(backbone, backbone), "backbone.weights": "none"}
    changes["view.size"] = 42 if "patch14" in backbone else 32
    if semantic:
        changes["backbone.semantic"] = {"weights": "none", "size": 42}
    return recipe.with_overrides(changes | more)
