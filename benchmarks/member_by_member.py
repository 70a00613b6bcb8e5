"""How published notebooks predict: every fold's model is loaded by itself, backbone and all, and looks at the test
photographs once for every element of test-time augmentation, decoding them anew."""

from __future__ import annotations

import numpy as np
import torch

from ensemble.blend.blend import Blend
from pasture.dataset import Dataset
from pasture.projection import project
from pasture.targets import TARGETS, Array
from trainables.compute.precision import best_device
from trainables.images import d4
from trainables.images.views import load_views
from trainables.network.backbone import create_backbone
from trainables.network.model import Batch
from trainables.training.nets import Widths
from trainables.trial.trained_net import trained_net

BATCH = 16


@torch.inference_mode()
def predict(blend: Blend, dataset: Dataset) -> Array:
    """(n, 5) in grams; for members of one frozen backbone each."""
    result = np.zeros((len(dataset), len(TARGETS)))
    device = best_device()
    for member in blend.members:
        assert member.recipe is not None
        for fold in range(member.folds):
            state = blend.backbone_weights(member.backbone)
            backbone = create_backbone(member.recipe.backbone, member.recipe.view.size, state).to(device).eval()
            weights = blend.fold_weights(member, fold)
            head = trained_net(member.recipe, Widths(backbone.features), weights, state).to(device)
            for element in d4.tta_elements(blend.tta):
                share = member.weight / member.folds / len(d4.tta_elements(blend.tta))
                for rows in np.array_split(np.arange(len(dataset)), -(-len(dataset) // BATCH)):
                    views = np.stack([load_views(dataset.paths[row], member.recipe.view) for row in rows])
                    pictures = d4.apply(torch.from_numpy(views), element).to(device)
                    features = backbone(pictures.flatten(0, 1)).view(*pictures.shape[:2], -1)
                    result[rows] += share * project(head.grams(Batch(features)).double().cpu().numpy())
    return result
