"""Whether a recipe can be built, before any picture is read."""

from __future__ import annotations

from trainables.backbone import check_backbone, create_backbone
from trainables.fitted import check_fitted
from trainables.recipe import Recipe
from trainables.tuning import add_lora, set_tuning


def check_recipe(recipe: Recipe) -> None:
    """Build what depends on the backbone once: its weights, taps and pool, every stage's tuning, the second backbone.

    Raises:
        InputError: naming the field that does not fit and what would.
    """
    if not recipe.neural:
        check_fitted(recipe)
    check_backbone(recipe.backbone, recipe.view.size)
    if (semantic := recipe.semantic) is not None:
        check_backbone(semantic.backbone, semantic.view.size)
    tunings = {stage.tuning for stage in recipe.stages} - {"frozen", "full"}
    if tunings:
        backbone = create_backbone(recipe.backbone, recipe.view.size)
        if "lora" in tunings:
            add_lora(backbone, recipe.backbone)
        for tuning in tunings:
            set_tuning(backbone, recipe.backbone, tuning)
