"""Fitting a recipe into the memory of a GPU: gradient checkpointing, and how many photographs to compute at a time.

Neither changes what a step of the optimiser learns from: the gradients of `schedule.batch_size` photographs are added
up, however few of them are in memory at a time.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch

from trainables.recipe.recipe import Recipe
from trainables.trial.memory_needs import Needs, training_needs


class Way(NamedTuple):
    """One way to train a recipe.

    Attributes:
        recipe: with gradient checkpointing on or off.
        needs: calculated memory.
        batch: the largest number of photographs that fit at a time; 0 if not even one does.
    """

    recipe: Recipe
    needs: Needs
    batch: int


class Fitted(NamedTuple):
    """A recipe as it is trained on a device.

    Attributes:
        recipe: with gradient checkpointing on or off.
        at_a_time: number of photographs in memory at a time.
    """

    recipe: Recipe
    at_a_time: int


def ways(recipe: Recipe, memory: float) -> list[Way]:
    """The recipe as it is and, where its backbone is trained, with gradient checkpointing the other way round.

    Args:
        recipe: what to train.
        memory: of one GPU, in bytes.

    Returns:
        Nothing for a head that is not a network.

    Raises:
        InputError: a backbone that timm does not know, or that cannot take the recipe's size.
    """
    variants = [recipe]
    if not recipe.banked:
        other = {"backbone.gradient_checkpointing": not recipe.backbone.gradient_checkpointing}
        variants.append(recipe.with_overrides(other))
    needed = ((variant, training_needs(variant)) for variant in variants)
    return [Way(variant, needs, needs.largest_batch(memory)) for variant, needs in needed if needs]


def best_way(found: Sequence[Way]) -> Way | None:
    """The first way that takes a whole batch, else the one that takes the most photographs; None if nothing fits."""
    some = [way for way in found if way.batch]
    whole = [way for way in some if way.batch >= way.recipe.schedule.batch_size]
    return whole[0] if whole else max(some, key=lambda way: way.batch, default=None)


def fitted(recipe: Recipe, device: torch.device) -> Fitted:
    """How to train a recipe on a device; as it is written, unless it has `optimizer.fit_memory` and needs a GPU.

    The same recipe on the same kind of GPU gives the same result. Warns if by calculation not even one photograph fits;
    training then tries it with one.
    """
    batch = recipe.schedule.batch_size
    if not recipe.optimizer.fit_memory or recipe.banked or device.type != "cuda":
        return Fitted(recipe, batch)
    memory = torch.cuda.get_device_properties(device).total_memory
    best = best_way(ways(recipe, memory))
    if best is None:
        warnings.warn(
            f"optimizer.fit_memory: by calculation not even one photograph fits into {memory / 2**30:.0f} GB; trying "
            "one at a time with gradient checkpointing",
            stacklevel=2,
        )
        return Fitted(recipe.with_overrides({"backbone.gradient_checkpointing": True}), 1)
    # Parts of a batch of nearly equal size, as the training cuts them.
    parts = -(-batch // best.batch)
    return Fitted(best.recipe, -(-batch // parts))
