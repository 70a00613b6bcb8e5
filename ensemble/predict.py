"""Predicting with a blend: each pretrained backbone runs once per D4 element, however many models stand on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ensemble.blend import Blend, Member
from pasture.dataset import Dataset
from pasture.projection import project
from pasture.targets import TARGETS, Array
from trainables import d4
from trainables.backbone import Backbone, create_backbone
from trainables.feature_bank import extract
from trainables.learner import create_net, load_weights
from trainables.model import BiomassNet
from trainables.precision import autocast, best_device
from trainables.recipe import TtaName, View
from trainables.views import load_views

CHUNK = 32
"""Photographs in memory at a time; the next chunk is decoded while this one is computed."""


@dataclass(frozen=True)
class _Group:
    """Models that look at the same views: those on one frozen backbone, or one member whose backbone was trained."""

    view: View
    frozen: Backbone | None
    models: list[tuple[float, BiomassNet]]


def predict(blend: Blend, dataset: Dataset, tta: TtaName | None = None) -> Array:
    """Predict photographs.

    Args:
        blend: what predicts.
        dataset: photographs, labelled or not.
        tta: test-time augmentation; the blend's own by default.

    Returns:
        (n, 5) in grams, in the order of `dataset.ids`, non-negative and in mass balance.

    Raises:
        InputError: a picture or a weight file cannot be read.
    """
    device = best_device()
    groups = _load(blend, device)
    elements = d4.tta_elements(tta or blend.tta)
    result = np.zeros((len(dataset), len(TARGETS)))
    for start, pictures in _chunks(dataset, {group.view for group in groups}):
        for group in groups:
            views = pictures[group.view]
            result[start : start + len(views)] += _predict_group(group, views, elements, device)
    return result


@torch.inference_mode()
def _predict_group(group: _Group, views: Tensor, elements: tuple[int, ...], device: torch.device) -> Array:
    total = np.zeros((len(views), len(TARGETS)))
    for element in elements:
        turned = d4.apply(views, element)
        if group.frozen is not None:
            features = extract(group.frozen, turned.flatten(0, 1), device)
            # Heads were trained on features kept in half precision; they are given the same here.
            turned = features.half().float().view(len(views), -1, features.shape[1])
        for weight, net in group.models:
            with autocast(device):
                grams = net.grams(turned.to(device))
            total += weight / len(elements) * project(grams.double().cpu().numpy())
    return total


def _load(blend: Blend, device: torch.device) -> list[_Group]:
    groups: dict[tuple[str, View, str], _Group] = {}
    for member in blend.members:
        tuned = member.recipe.backbone.tuning != "frozen"
        key = (member.backbone, member.recipe.view, member.key if tuned else "")
        if key not in groups:
            groups[key] = _Group(member.recipe.view, None if tuned else _backbone(blend, member).to(device), [])
        state = blend.backbone_weights(member.backbone) if tuned else None
        features = (groups[key].frozen or _backbone(blend, member)).features
        for fold in range(member.folds):
            net = create_net(member.recipe, features, state)
            load_weights(net, blend.fold_weights(member, fold))
            groups[key].models.append((member.weight / member.folds, net.to(device).eval()))
    return list(groups.values())


def _backbone(blend: Blend, member: Member) -> Backbone:
    state = blend.backbone_weights(member.backbone)
    return create_backbone(member.recipe.backbone, member.recipe.view.size, state).eval()


def _chunks(dataset: Dataset, views: set[View]) -> Iterator[tuple[int, dict[View, Tensor]]]:
    """First row and views of one chunk of photographs after another."""
    paths = dataset.paths
    starts = range(0, len(paths), CHUNK)

    def submit(start: int) -> dict[View, list[Future[np.ndarray]]]:
        return {v: [pool.submit(load_views, path, v) for path in paths[start : start + CHUNK]] for v in views}

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        pending = submit(0)
        for start in starts:
            current = pending
            pending = submit(start + CHUNK)
            yield start, {v: torch.from_numpy(np.stack([f.result() for f in part])) for v, part in current.items()}
