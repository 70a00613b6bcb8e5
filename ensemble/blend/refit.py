"""Refitting a blend: each member becomes one model trained on all images, in place of the models of its folds."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ensemble.blend.blend import Blend
from ensemble.blend.blend_file import BlendFile, BlendMember
from ensemble.estimate.evidence import NAME as EVIDENCE
from pasture.atomic import atomic_folder
from pasture.dataset import read_train
from pasture.errors import InputError
from pasture.files import Folder
from pasture.verification import VerifiedDataset, verify
from trainables.compute.precision import best_device
from trainables.features.context import TrialContext
from trainables.network.weights_file import pack
from trainables.recipe.recipe import Recipe
from trainables.training.nets import backbone_digests
from trainables.trial.refit import train_on_all

NOTE = (
    "refit: members are one model trained on all images; the scores are those of the fold models that they replace, "
    "and no image is left on which they could be scored themselves"
)
OTHER_DATA = "refit on other data than the blend was judged on: its scores do not describe these models"


def refit(blend: Blend, data: Path, out: Path, say: Callable[[str], None]) -> Blend:
    """Write a blend folder with the same members and weights, each member one model trained on all images of `data`.

    Every member is trained from the pretrained backbone in the blend, for as many epochs as its fold models were. A
    backbone that is stored in half precision stays so: heads are trained on features of its rounded weights.

    Args:
        blend: whose members to train.
        data: data folder with labelled photographs: that of the blend, or one with more.
        out: folder to write; appears only when complete.
        say: called with one line a member.

    Raises:
        InputError: bad data, `out` exists, or a member is external and has no recipe.
        JobError: a loss is not finite, or the folder cannot be written.
    """
    if external := [member.key for member in blend.members if member.recipe is None]:
        raise InputError(f"member {external[0]} was imported and has no recipe: there is nothing to train")
    dataset = verify(read_train(data), any(m.recipe.needs_pictures for m in blend.members if m.recipe))
    notes = [NOTE, *([OTHER_DATA] if dataset.fingerprint != blend.fingerprint else [])]
    return _write(blend, dataset, blend.members, out, notes, say)


def refit_in_place(blend: Blend, data: Path, members: Sequence[BlendMember], say: Callable[[str], None]) -> Blend:
    """Replace the fold models of some members by one model each, trained on all images that the blend was judged on.

    The blend folder stays as it is until all of them are trained.

    Args:
        blend: as it was built.
        data: data folder of its runs.
        members: of the blend; none is external.
        say: called with one line a member.

    Raises:
        InputError: bad data, or other data than that of the blend.
        JobError: a loss is not finite, or the folder cannot be written.
    """
    dataset = verify(read_train(data), any(m.recipe.needs_pictures for m in members if m.recipe))
    if dataset.fingerprint != blend.fingerprint:
        raise InputError(f"{data}: not the data of the blend's runs, or changed since; give their folder with --data")
    folder = blend.folder.resolve()
    before, after = (folder.with_name(f".{folder.name}.{name}") for name in ("folds", "refit"))
    _write(blend, dataset, members, after, [NOTE], say)
    folder.replace(before)
    after.replace(folder)
    shutil.rmtree(before)
    return dataclasses.replace(Blend.read(blend.folder), evidence=blend.evidence)


def _write(
    blend: Blend,
    dataset: VerifiedDataset,
    chosen: Sequence[BlendMember],
    out: Path,
    notes: Sequence[str],
    say: Callable[[str], None],
) -> Blend:
    """Write the blend with some members trained on all images, the others as they are."""
    keys, device = {member.key for member in chosen}, best_device()
    with atomic_folder(out) as partial:
        folder = Folder.at(partial)
        for name in ("backbones", "members"):
            if (blend.folder / name).exists():  # no backbones where all features were made elsewhere
                shutil.copytree(blend.folder / name, partial / name, ignore=lambda _, names: keys.intersection(names))
        for number, member in enumerate(chosen, 1):
            say(f"[{number}/{len(chosen)}] {member.key}: {member.epoch + 1} epoch(s) on {len(dataset)} images")
            weights = _train(blend, member, dataset, device)
            folder.write(f"members/{member.key}/fold0.safetensors", pack(weights, {}))
            assert member.recipe is not None
            folder.write(f"members/{member.key}/recipe.yaml", member.recipe.to_yaml().encode())
        for name in ("oof.parquet", EVIDENCE):
            if (blend.folder / name).exists():
                shutil.copyfile(blend.folder / name, partial / name)
        content = dataclasses.replace(
            BlendFile.read(blend.folder),
            fingerprint=dataset.fingerprint,
            members=tuple(dataclasses.replace(m, folds=1) if m.key in keys else m for m in blend.members),
            warnings=[*blend.warnings, *notes],
        )
        content.write(folder)
    return Blend.read(out)


def _train(
    blend: Blend, member: BlendMember, dataset: VerifiedDataset, device: torch.device
) -> dict[str, torch.Tensor]:
    assert member.recipe is not None
    recipe = _on_the_blends_backbones(blend, member, member.recipe)
    digests = backbone_digests(recipe, blend.image_ids())
    stored = [blend.half.get(digest, digest) for digest in (member.backbone, member.semantic)]
    if [digests["backbone_digest"], digests["semantic_digest"]] != stored:
        raise InputError(f"{blend.folder}: backbones/ does not hold what {member.key} was trained on; build it again")
    return train_on_all(recipe, TrialContext(dataset, device), member.epoch + 1, member.curve)


def _on_the_blends_backbones(blend: Blend, member: BlendMember, recipe: Recipe) -> Recipe:
    """The recipe with the blend's own copies of its pretrained weights, so that neither hub nor package is needed."""
    digests = {"backbone.weights": member.backbone, "backbone.semantic.weights": member.semantic}
    paths = {
        field: blend.folder.absolute() / "backbones" / f"{digest}.safetensors" for field, digest in digests.items()
    }
    files = {field: path for field, path in paths.items() if path.exists()}  # there is none of an imported bank
    return recipe.with_overrides({field: str(path) for field, path in files.items()}, member.key)
