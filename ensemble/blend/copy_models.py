"""Copying the models of trials into a blend folder."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ensemble.members.pool import Member
from pasture.errors import InputError
from pasture.files import Folder
from trainables.network.backbone import create_backbone
from trainables.network.weights_file import pack, unpack
from trainables.recipe.recipe import Recipe

_SUFFIX = ".safetensors"


def has_models(members: Sequence[Member]) -> tuple[list[Member], list[tuple[str, str]]]:
    """The members that can predict, and (key, reason) of those that lack weights of a fold; no file is opened."""
    complete, refused = [], []
    with ThreadPoolExecutor() as threads:
        counts = list(threads.map(_models, members))
    for member, found in zip(members, counts, strict=True):
        repeats = 1 if member.external else Recipe.parse(member.recipe, member.key).validation.repeats
        expected = 0 if member.external else len(np.unique(member.folds)) * repeats
        if found == expected:
            complete.append(member)
        else:
            refused.append(
                (member.key, f"{member.run.weights(member.trial)} has weights of {found} of {expected} folds")
            )
    return complete, refused


def _models(member: Member) -> int:
    """How many weight files the run has of a member."""
    return 0 if member.external else len(member.run.weights(member.trial).names(_SUFFIX))


def write_models(folder: Folder, member: Member) -> tuple[Recipe, int]:
    """Copy a trial's recipe, fold weights and pretrained backbones; the recipe and the number of models.

    Raises:
        InputError: a weight file is damaged, or a pretrained backbone is not the one that the trial was trained on.
        JobError: the folder cannot be written.
    """
    recipe = Recipe.parse(member.recipe, member.key)
    source = member.run.weights(member.trial)
    target = folder / "members" / member.key
    names = source.names(_SUFFIX)
    for name in names:
        content = source.read(name)
        unpack(content, str(source / name))
        target.write(name, content)
    target.write("recipe.yaml", recipe.to_yaml().encode())
    _write_backbone(folder, member.key, recipe, member.backbone_digest)
    if recipe.semantic:
        _write_backbone(folder, member.key, recipe.semantic, member.semantic_digest)
    return recipe, len(names)


def _write_backbone(folder: Folder, key: str, recipe: Recipe, digest: str) -> None:
    if recipe.backbone.bank or folder.exists(f"backbones/{digest}{_SUFFIX}"):
        return
    backbone = create_backbone(recipe.backbone, recipe.view.size)
    if backbone.digest() != digest:
        raise InputError(
            f"{key}: backbone {recipe.backbone.name} with weights={recipe.backbone.weights} is not what the trial was "
            "trained on; put the same weights back"
        )
    folder.write(f"backbones/{digest}{_SUFFIX}", pack(backbone.model.state_dict(), {}))
