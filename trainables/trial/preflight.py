"""Checking that a recipe can be built, before any picture is read."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from pasture.errors import InputError
from trainables.features import embeddings
from trainables.features.feature_bank import bank_dtype, copies
from trainables.features.grid_space import bank_gb
from trainables.fitted.model import check_fitted
from trainables.images import d4
from trainables.images.array_cache import cache_root
from trainables.images.views import view_count
from trainables.network.backbone import check_backbone, create_backbone
from trainables.network.tuning import add_lora, set_tuning
from trainables.recipe.recipe import Recipe
from trainables.training.nets import widths


def check_recipe(recipe: Recipe, ids: Sequence[str]) -> None:
    """Build what depends on the backbone once: weights, out_indices, pool, tuning of every stage, second backbone.

    Args:
        recipe: the recipe.
        ids: ids of the training images, which an imported bank must contain.

    Raises:
        InputError: naming the field that does not fit and the values that do.
    """
    if not recipe.neural:
        check_fitted(recipe)
    widths(recipe)
    if recipe.dense and recipe.banked:
        _say_space(recipe, len(ids))
    for part in filter(None, (recipe, recipe.semantic)):
        if name := part.backbone.bank:
            _check_bank(name, part, ids)
    tunings = {(stage.tuning, stage.blocks) for stage in recipe.stages if stage.tuning not in ("frozen", "full")}
    if tunings:
        backbone = create_backbone(recipe.backbone, recipe.view.size)
        if recipe.adapted:
            add_lora(backbone, recipe.backbone)
        for tuning, blocks in tunings:
            set_tuning(backbone, recipe.backbone, tuning, blocks)


def _say_space(recipe: Recipe, images: int) -> None:
    """Warn of the disk that the cells of a density head take."""
    cells, width = check_backbone(recipe.backbone, recipe.view.size).shape
    draws, views = len(d4.ALL) + copies(recipe), view_count(recipe.view)
    space = bank_gb((images, draws, views, cells, width), bank_dtype(recipe.optimizer.precision))
    warnings.warn(
        f"head.kind=density keeps {cells} cell(s) of {width} features for each of {views} view(s) in {draws} variants: "
        f"{space:.3g} GB in {cache_root()} of each node, and twice that while they are computed",
        stacklevel=2,
    )


def _check_bank(name: str, recipe: Recipe, ids: Sequence[str]) -> None:
    views = embeddings.read(name).rows(ids, name).shape[2]
    if views != (expected := view_count(recipe.view)):
        kinds = {1: "whole", 2: "halves", 3: "whole_and_halves", 5: "corners"}
        raise InputError(
            f"backbone.name=bank:{name} has {views} view(s) of a photograph, view.kind={recipe.view.kind} with "
            f"view.tiles={recipe.view.tiles} has {expected}; set view.kind"
            + (
                f"={kinds[views]}"
                if views in kinds
                else " and view.tiles to the views that the embeddings were made of"
            )
        )
