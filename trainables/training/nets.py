"""Creating the network of a recipe, and finding the part of it that training changes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from torch import Tensor, nn

from pasture.errors import JobError
from trainables.features import embeddings
from trainables.features.inputs import Inputs, Rows
from trainables.images import d4
from trainables.network.backbone import check_backbone, create_backbone
from trainables.network.model import TRAINING_HEADS, BiomassNet
from trainables.network.tuning import add_lora, set_tuning
from trainables.recipe.recipe import Recipe

_ROWS: Final = 8


class Widths(NamedTuple):
    """Lengths of the vectors that backbones make of a picture.

    Attributes:
        features: of the backbone.
        semantic: of the second backbone; 0 without one.
    """

    features: int
    semantic: int = 0


def widths(recipe: Recipe) -> Widths:
    """The lengths for a recipe; builds its backbones if they were not built before."""
    second = recipe.semantic
    return Widths(_width(recipe), _width(second) if second else 0)


def backbone_digests(recipe: Recipe, ids: Sequence[str]) -> dict[str, str]:
    """Hashes of a recipe's backbones: `backbone_digest` and `semantic_digest`, the latter "" without a second backbone.

    Args:
        recipe: its backbones are hashed by their weights, imported embeddings by their values.
        ids: images whose embeddings are hashed: those of the trial's OOF, so that others may join the bank later.
    """
    second = recipe.semantic
    return {
        "backbone_digest": _digest(recipe, ids),
        "semantic_digest": _digest(second, ids) if second else "",
    }


def _width(recipe: Recipe) -> int:
    if name := recipe.backbone.bank:
        return int(embeddings.read(name).features.shape[-1])
    return check_backbone(recipe.backbone, recipe.view.size).features


def _digest(recipe: Recipe, ids: Sequence[str]) -> str:
    if name := recipe.backbone.bank:
        return embeddings.read(name).digest(name, ids)
    return check_backbone(recipe.backbone, recipe.view.size).digest


def create_net(recipe: Recipe, sizes: Widths, backbone_state: Mapping[str, Tensor] | None = None) -> BiomassNet:
    """Create the network of a recipe, with a backbone inside unless its features are in a bank.

    Args:
        recipe: what to build.
        sizes: lengths of the backbones' vectors.
        backbone_state: pretrained weights to use instead of the recipe's source.
    """
    backbone = None
    if not recipe.banked:
        backbone = create_backbone(recipe.backbone, recipe.view.size, backbone_state)
        if recipe.adapted:
            add_lora(backbone, recipe.backbone)
    return BiomassNet(recipe, sizes.features, backbone, sizes.semantic)


def standardize(net: BiomassNet, inputs: Inputs, rows: Rows) -> None:
    """Fit a network's standardisers to the features of some rows, over views, cells and D4 elements."""
    if net.standardize is not None:
        # The cells of all rows at a time would not fit the memory.
        parts = np.array_split(rows, math.ceil(len(rows) / _ROWS)) if net.dense else [rows]
        net.standardize.fit(lambda: (inputs.element(part, element).views for part in parts for element in d4.ALL))
    second = inputs.semantic
    if net.standardize_semantic is not None and second is not None:
        net.standardize_semantic.fit(lambda: (second.element(rows, element).views.mean(dim=1) for element in d4.ALL))


def trained_names(net: BiomassNet, recipe: Recipe) -> set[str]:
    """Names of the tensors in the state dict that any stage of the training changes."""
    names = {name for name in net.state_dict() if not name.startswith("backbone.")}
    if net.backbone is None:
        return names
    for stage in recipe.stages:
        set_tuning(net.backbone, recipe.backbone, stage.tuning, stage.blocks)
        for prefix, module in net.backbone.named_modules(prefix="backbone"):
            trained = [name for name, p in module.named_parameters(recurse=False) if p.requires_grad]
            names |= {f"{prefix}.{name}" for name in trained}
            if trained:  # a trained module updates its running statistics too
                names |= {f"{prefix}.{name}" for name, _ in module.named_buffers(recurse=False)}
    return names & set(net.state_dict())


def saved_names(names: set[str]) -> set[str]:
    """Those of the trained tensors that predictions need: without the heads that exist in training only."""
    return {name for name in names if not name.startswith(tuple(f"{head}." for head in TRAINING_HEADS))}


def load_weights(net: nn.Module, weights: Mapping[str, Tensor], names: set[str]) -> None:
    """Load trained weights into a network that holds the same pretrained backbone.

    Args:
        net: the network.
        weights: the result of a learner's `weights`.
        names: their expected names, from `trained_names`.

    Raises:
        JobError: tensors are missing, too many or of other shapes.
    """
    if names != set(weights):
        lost, extra = sorted(names - set(weights)), sorted(set(weights) - names)
        raise JobError(f"weights do not fit the recipe: missing {lost[:3]}, unexpected {extra[:3]}")
    try:
        net.load_state_dict(dict(weights), strict=False)
    except RuntimeError as error:
        raise JobError(f"weights do not fit the recipe: {' '.join(str(error).split())[:200]}") from None
