"""The blend folder: everything that prediction needs, and nothing that points elsewhere.

blend.json                              members and weights, scores, TTA, fingerprint, versions
members/<run>-<trial>/recipe.yaml       and fold<k>.safetensors: what differs from the pretrained backbone
backbones/<digest>.safetensors          each pretrained backbone, once
oof.parquet                             OOF prediction of the blend
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ensemble.honest import Estimate, evaluate
from ensemble.members import Candidate, Pool, load_candidates
from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, Array
from trainables import d4
from trainables.backbone import create_backbone
from trainables.recipe import Recipe
from trainables.sections import TtaName
from trainables.versions import versions
from trainables.weights_file import pack, unpack


@dataclass(frozen=True)
class Member:
    """One member of a blend: its recipe, its share and the models of its folds.

    Attributes:
        key: `<run>-<trial>`.
        weight: its share; those of all members sum to 1.
        score: OOF R2 of the member alone, with the blend's TTA.
        recipe: what it is.
        backbone: digest of its pretrained backbone.
        semantic: digest of its second backbone; empty where it has none.
        folds: how many models it has; its prediction is their mean.
    """

    key: str
    weight: float
    score: float
    recipe: Recipe
    backbone: str
    semantic: str
    folds: int


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a blend was judged on.

    Attributes:
        image_ids: n ids.
        dates: (n,) sampling date of each image.
        truth: (n, 5) in grams.
        predictions: (n, 8, 5) in grams, OOF of the blend under each element of D4; a member whose OOF has the identity
            alone counts with that under all.
        refused: (key, reason) of every trial that could not be a candidate.
    """

    image_ids: list[str]
    dates: NDArray[np.str_]
    truth: Array
    predictions: Array
    refused: list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Blend:
    """A blend folder.

    Attributes:
        folder: where it is.
        tta: the test-time augmentation that it was chosen for.
        fingerprint: of the data that its members were trained on.
        members: heaviest first.
        estimate: its scores by name.
        warnings: what makes the scores less than honest, or absent.
        evidence: what it was judged on, where it has just been built; the folder keeps none of it.
    """

    folder: Path
    tta: TtaName
    fingerprint: str
    members: tuple[Member, ...]
    estimate: dict[str, Any]
    warnings: list[str]
    evidence: Evidence | None = None

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
            members = tuple(_read_member(folder, entry) for entry in content["members"])
            if content["tta"] not in get_args(TtaName):
                raise ValueError(f"tta {content['tta']!r}")
            if not np.isclose(sum(member.weight for member in members), 1):
                raise ValueError("the weights of its members do not sum to 1")
            return cls(folder, content["tta"], content["fingerprint"], members, content["scores"], content["warnings"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise InputError(f"{source}: damaged ({reason}); build the blend again") from None


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
    warnings = [*pool.warnings, *estimate.notes]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        folder = Folder.at(partial)
        members = [_write_member(folder, pool.candidates[i], float(estimate.weights[i])) for i in chosen]
        _write_oof(folder, pool, pool.candidates[chosen[0]], np.tensordot(estimate.weights, pool.predictions, axes=1))
        evidence = _evidence(pool, [(pool.candidates[i], float(estimate.weights[i])) for i in chosen])
        content = {
            "tta": tta,
            "fingerprint": pool.fingerprint,
            "scores": scores,
            "members": [_member_entry(member) for member in members],
            "warnings": warnings,
            "versions": versions(),
        }
        folder.write("blend.json", json.dumps(content, indent=2).encode())
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Blend(out, tta, pool.fingerprint, tuple(members), scores, warnings, evidence)


def _write_member(folder: Folder, candidate: Candidate, weight: float) -> Member:
    recipe = Recipe.parse(candidate.recipe, candidate.key)
    source = candidate.run.weights(candidate.trial)
    target = folder / "members" / candidate.key
    names = source.names(".safetensors")
    if len(names) != len(np.unique(candidate.folds)):
        raise InputError(f"{source}: {len(names)} fold weights, expected {len(np.unique(candidate.folds))}")
    for name in names:
        content = source.read(name)
        unpack(content, source.file(name))
        target.write(name, content)
    target.write("recipe.yaml", recipe.to_yaml().encode())
    _write_backbone(folder, candidate.key, recipe, candidate.backbone_digest)
    if recipe.semantic:
        _write_backbone(folder, candidate.key, recipe.semantic, candidate.semantic_digest)
    return Member(
        candidate.key,
        weight,
        candidate.score,
        recipe,
        candidate.backbone_digest,
        candidate.semantic_digest,
        len(names),
    )


def _write_backbone(folder: Folder, key: str, recipe: Recipe, digest: str) -> None:
    if recipe.backbone.bank or folder.exists(f"backbones/{digest}.safetensors"):
        return
    backbone = create_backbone(recipe.backbone, recipe.view.size)
    if backbone.digest() != digest:
        raise InputError(
            f"{key}: backbone {recipe.backbone.name} with weights={recipe.backbone.weights} is not what the trial was "
            "trained on; put the same weights back"
        )
    folder.write(f"backbones/{digest}.safetensors", pack(backbone.model.state_dict(), {}))


def _write_oof(folder: Folder, pool: Pool, first: Candidate, predictions: Array) -> None:
    metadata = {"trial": "blend", "recipe": {}, "recipe_hash": "", "epoch": 0, "fingerprint": pool.fingerprint}
    OofTable(pool.image_ids, first.folds, predictions[:, None], metadata).write(folder, "oof.parquet")


def _evidence(pool: Pool, chosen: list[tuple[Candidate, float]]) -> Evidence:
    predictions = np.zeros((len(pool.image_ids), len(d4.ALL), len(TARGETS)))
    for candidate, weight in chosen:
        table = candidate.run.read_oof(candidate.trial)
        row = {image: i for i, image in enumerate(table.image_ids)}
        predictions += weight * table.predictions[[row[image] for image in pool.image_ids]]
    return Evidence(pool.image_ids, pool.dates, pool.truth, predictions, pool.refused)


def _scores(estimate: Estimate) -> dict[str, Any]:
    names = ("fitted", "nested", "interval", "best_single", "uniform", "optimum", "baseline")
    return {name: getattr(estimate, name) for name in names}


def _member_entry(member: Member) -> dict[str, Any]:
    return {name: getattr(member, name) for name in ("key", "weight", "score", "backbone", "semantic", "folds")}


def _read_member(folder: Path, entry: dict[str, Any]) -> Member:
    key, backbone, semantic = str(entry["key"]), str(entry["backbone"]), str(entry["semantic"])
    if not key or "/" in key or key.startswith("."):
        raise ValueError(f"member {key!r} leaves the folder")
    if not re.fullmatch("[0-9a-f]{32}", backbone) or not re.fullmatch("([0-9a-f]{32})?", semantic):
        raise ValueError(f"backbone {backbone!r} or {semantic!r} is not a digest")
    weight, folds = float(entry["weight"]), int(entry["folds"])
    if not 0 < weight <= 1 or folds < 1:
        raise ValueError(f"member {key!r} has the weight {weight} and {folds} models")
    source = folder / "members" / key / "recipe.yaml"
    recipe = Recipe.from_yaml(source.read_text(), str(source))
    return Member(key, weight, float(entry["score"]), recipe, backbone, semantic, folds)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the blend is not whole, build it again") from None
