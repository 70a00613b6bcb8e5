"""The blend folder: everything that prediction needs, and nothing that points elsewhere.

blend.json                              members and weights, scores, TTA, fingerprint, versions
members/<run>-<trial>/recipe.yaml       and fold<k>.safetensors: what differs from the pretrained backbone
backbones/<digest>.safetensors          each pretrained backbone, once
oof.parquet                             OOF prediction of the blend
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ensemble.honest import Estimate, evaluate
from ensemble.members import Candidate, Pool, load_candidates
from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import Array
from trainables.backbone import create_backbone
from trainables.recipe import Recipe, TtaName
from trainables.versions import versions


@dataclass(frozen=True)
class Member:
    """One member of a blend: its recipe, its share and the models of its folds.

    Attributes:
        key: `<run>-<trial>`.
        weight: its share; those of all members sum to 1.
        score: OOF R2 of the member alone, with the blend's TTA.
        recipe: what it is.
        backbone: digest of its pretrained backbone.
        folds: how many models it has; its prediction is their mean.
    """

    key: str
    weight: float
    score: float
    recipe: Recipe
    backbone: str
    folds: int


@dataclass(frozen=True)
class Blend:
    """A blend folder that has been read or just been built."""

    folder: Path
    tta: TtaName
    fingerprint: str
    members: tuple[Member, ...]
    estimate: dict[str, Any]
    refused: list[tuple[str, str]] = field(default_factory=list)

    def scores(self) -> dict[str, Any]:
        """What `forage ensemble --json` prints."""
        return {**self.estimate, "members": [{"trial": m.key, "weight": m.weight} for m in self.members]}

    def fold_weights(self, member: Member, fold: int) -> dict[str, Tensor]:
        """Weights of one of a member's models."""
        return _read_safetensors(self.folder / "members" / member.key / f"fold{fold}.safetensors")

    def backbone_weights(self, digest: str) -> dict[str, Tensor]:
        """Weights of a pretrained backbone."""
        return _read_safetensors(self.folder / "backbones" / f"{digest}.safetensors")

    @classmethod
    def read(cls, folder: Path) -> Blend:
        """Read a blend folder.

        Raises:
            InputError: not a blend folder, or damaged.
        """
        source = folder / "blend.json"
        if not source.is_file():
            raise InputError(f"{folder}: not a blend folder (no blend.json); give one that `forage ensemble` wrote")
        try:
            content = json.loads(source.read_text())
            members = tuple(
                Member(
                    key=m["key"],
                    weight=float(m["weight"]),
                    score=float(m["score"]),
                    recipe=Recipe.from_yaml(_member_file(folder, m["key"]).read_text(), f"{source}: {m['key']}"),
                    backbone=str(m["backbone"]),
                    folds=int(m["folds"]),
                )
                for m in content["members"]
            )
            return cls(folder, content["tta"], content["fingerprint"], members, content["scores"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(f"{source}: damaged ({error}); build the blend again") from None


def build(runs: Sequence[RunFolder], out: Path, tta: TtaName) -> Blend:
    """Choose members from the finished trials of some runs and write a blend folder.

    Args:
        runs: run directories made from the same data.
        out: folder to write; appears only when complete.
        tta: the test-time augmentation that the choice is made for.

    Raises:
        InputError: `out` exists, no trial can be blended, weights are missing or damaged.
        JobError: the folder cannot be written.
    """
    if out.exists():
        raise InputError(f"{out}: exists already; choose another --out, or remove it")
    pool = load_candidates(runs, tta)
    estimate = evaluate(pool)
    chosen = [i for i in np.argsort(-estimate.weights, kind="stable") if estimate.weights[i] > 0]
    scores = _scores(estimate)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        folder = Folder.at(partial)
        members = [_write_member(folder, pool.candidates[i], float(estimate.weights[i])) for i in chosen]
        _write_oof(folder, pool, pool.candidates[chosen[0]], np.tensordot(estimate.weights, pool.predictions, axes=1))
        content = {
            "tta": tta,
            "fingerprint": pool.fingerprint,
            "scores": scores,
            "members": [_member_entry(member) for member in members],
            "warnings": [*pool.warnings, *estimate.notes],
            "versions": versions(),
        }
        folder.write("blend.json", json.dumps(content, indent=2).encode())
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Blend(out, tta, pool.fingerprint, tuple(members), scores, pool.refused)


def _write_member(folder: Folder, candidate: Candidate, weight: float) -> Member:
    recipe = Recipe.parse(candidate.recipe, candidate.key)
    source = candidate.run.weights(candidate.trial)
    target = folder / "members" / candidate.key
    names = source.names(".safetensors")
    if len(names) != len(np.unique(candidate.folds)):
        raise InputError(f"{source}: {len(names)} fold weights, expected {len(np.unique(candidate.folds))}")
    for name in names:
        content = source.read(name)
        _parse_safetensors(content, source.file(name))
        target.write(name, content)
    target.write("recipe.yaml", recipe.to_yaml().encode())
    backbone = create_backbone(recipe.backbone, recipe.view.size)
    digest = backbone.digest()
    if digest != candidate.backbone_digest:
        raise InputError(
            f"{candidate.key}: backbone {recipe.backbone.name} with weights={recipe.backbone.weights} is not what the "
            "trial was trained on; put the same weights back"
        )
    if not folder.exists(f"backbones/{digest}.safetensors"):
        folder.write(f"backbones/{digest}.safetensors", save(backbone.model.state_dict()))
    return Member(candidate.key, weight, candidate.score, recipe, digest, len(names))


def _write_oof(folder: Folder, pool: Pool, first: Candidate, predictions: Array) -> None:
    metadata = {"trial": "blend", "recipe": {}, "recipe_hash": "", "epoch": 0, "fingerprint": pool.fingerprint}
    OofTable(pool.image_ids, first.folds, predictions[:, None], metadata).write(folder, "oof.parquet")


def _scores(estimate: Estimate) -> dict[str, Any]:
    names = ("fitted", "nested", "interval", "best_single", "uniform", "optimum", "baseline")
    return {name: getattr(estimate, name) for name in names}


def _member_entry(member: Member) -> dict[str, Any]:
    return {name: getattr(member, name) for name in ("key", "weight", "score", "backbone", "folds")}


def _member_file(folder: Path, key: str) -> Path:
    if "/" in key or key.startswith("."):
        raise ValueError(f"member {key!r} leaves the folder")
    return folder / "members" / key / "recipe.yaml"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return _parse_safetensors(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the blend is not whole, build it again") from None


def _parse_safetensors(content: bytes, source: str) -> dict[str, Tensor]:
    try:
        return dict(load(content))
    except SafetensorError as error:
        raise InputError(f"{source}: damaged weights ({error})") from None
