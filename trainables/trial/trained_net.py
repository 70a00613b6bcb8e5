"""The network of a finished fold, for prediction."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from trainables.fitted.learner import FittedNet
from trainables.network.model import BiomassNet
from trainables.network.tuning import merge_lora
from trainables.recipe.recipe import Recipe
from trainables.training.nets import Widths, create_net, load_weights, trained_names


def trained_net(
    recipe: Recipe, sizes: Widths, weights: Mapping[str, Tensor], backbone_state: Mapping[str, Tensor]
) -> BiomassNet | FittedNet:
    """Create the network of a finished fold, in evaluation mode, with its low-rank adapters merged.

    Args:
        recipe: the recipe of the trial.
        sizes: lengths of the backbones' feature vectors.
        weights: the saved weights of the fold.
        backbone_state: the pretrained weights of the backbone.

    Raises:
        JobError: the weights do not fit the recipe.
    """
    if not recipe.neural:
        fitted = FittedNet(recipe, sizes)
        load_weights(fitted, weights, set(fitted.state_dict()))
        return fitted.eval()
    net = create_net(recipe, sizes, backbone_state)
    net.drop_training_heads()
    load_weights(net, weights, trained_names(net, recipe))
    if net.backbone is not None and recipe.adapted:
        merge_lora(net.backbone)
    return net.eval()
