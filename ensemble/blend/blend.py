"""The blend folder: everything that prediction needs, and nothing that points elsewhere.

blend.json                              members and weights, scores, TTA, fingerprint, versions
members/<run>-<trial>/recipe.yaml       and fold<k>.safetensors: what differs from the pretrained backbone; neither
                                        for a member that was imported
backbones/<digest>.safetensors          each pretrained backbone, once
oof.parquet                             OOF prediction of the blend
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ensemble.estimate.conformal import Conformal
from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.projection import project
from pasture.targets import TARGETS, Array
from trainables.network.weights_file import unpack
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import TtaName

_ENTRY = ("key", "weight", "target_weights", "score", "tta", "backbone", "semantic", "folds", "epoch", "curve")


@dataclass(frozen=True)
class Member:
    """One member of a blend: its recipe, its share and the models of its folds.

    Attributes:
        key: `<run>-<trial>`.
        weight: its share; by most methods those of all members sum to 1. Where targets have weights of their own, the
            mean of those by the metric's weights.
        target_weights: five, where targets have weights of their own; else empty.
        score: OOF R2 of the member alone, with the blend's TTA.
        tta: the same with 1, 2, 4 and 8 elements of D4, as far as its OOF has them.
        recipe: what it is; None for predictions that were imported.
        backbone: digest of its pretrained backbone; empty where it has none.
        semantic: digest of its second backbone; empty where it has none.
        folds: how many models it has; its prediction is their mean. 0 for predictions that were imported.
        epoch: 0-based epoch at which its models were saved.
        curve: OOF R2 after every epoch of its trial, up to that one.
    """

    key: str
    weight: float
    target_weights: tuple[float, ...]
    score: float
    tta: dict[str, float]
    recipe: Recipe | None
    backbone: str
    semantic: str
    folds: int
    epoch: int
    curve: tuple[float, ...]

    @property
    def shares(self) -> Array:
        """(5,) its weight for each target."""
        return np.array(self.target_weights or (self.weight,) * len(TARGETS))

    @property
    def what(self) -> str:
        """Its backbone, or where it came from."""
        return self.recipe.backbone.name if self.recipe else "imported"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a blend was judged on.

    Attributes:
        image_ids: n ids.
        dates: (n,) sampling date of each image.
        truth: (n, 5) in grams.
        predictions: (n, 8, 5) in grams, OOF of the blend under each element of D4, before the projection that a blend
            with weights for each target ends with; a member whose OOF has the identity alone counts with that under
            all.
        projected: whether there is such a projection.
        refused: (key, reason) of every trial that could not be a candidate.
    """

    image_ids: list[str]
    dates: NDArray[np.str_]
    truth: Array
    predictions: Array
    projected: bool
    refused: list[tuple[str, str]]

    def blended(self, elements: tuple[int, ...]) -> Array:
        """(n, 5) OOF of the blend in grams with some elements of D4."""
        mean = self.predictions[:, elements].mean(axis=1)
        return project(mean) if self.projected else mean


@dataclass(frozen=True, eq=False)
class Blend:
    """A blend folder.

    Attributes:
        folder: where it is.
        tta: the test-time augmentation that it was chosen for.
        fingerprint: of the data that its members were trained on.
        members: heaviest first.
        estimate: its scores by name, and how it was made.
        conformal: what intervals about its predictions are made from; None where it was judged on too few dates.
        warnings: what makes the scores less than honest, or absent.
        evidence: what it was judged on, where it has just been built; the folder keeps none of it.
    """

    folder: Path
    tta: TtaName
    fingerprint: str
    members: tuple[Member, ...]
    estimate: dict[str, Any]
    conformal: Conformal | None
    warnings: list[str]
    evidence: Evidence | None = None

    def scores(self) -> dict[str, Any]:
        """What `forage ensemble --json` prints."""
        return {**self.estimate, "members": [_scored(member) for member in self.members]}

    def fold_weights(self, member: Member, fold: int) -> dict[str, Tensor]:
        """Weights of one of a member's models."""
        return _read_safetensors(self.folder / "members" / member.key / f"fold{fold}.safetensors")

    def backbone_weights(self, digest: str) -> dict[str, Tensor]:
        """Weights of a pretrained backbone."""
        return _read_safetensors(self.folder / "backbones" / f"{digest}.safetensors")

    def image_ids(self) -> list[str]:
        """Ids of the images on which the blend was fitted."""
        return OofTable.read(Folder.at(self.folder), "oof.parquet").image_ids

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
            convex = not any(member.target_weights for member in members)
            if not members or (convex and not np.isclose(sum(member.weight for member in members), 1)):
                raise ValueError("the weights of its members do not sum to 1")
            conformal = _read_conformal(content["conformal"])
            scores, warnings = content["scores"], content["warnings"]
            return cls(folder, content["tta"], content["fingerprint"], members, scores, conformal, warnings)
        except (ValueError, KeyError, TypeError, OSError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise InputError(f"{source}: damaged ({reason}); build the blend again") from None


def _scored(member: Member) -> dict[str, Any]:
    """What is told of a member beside the blend's scores."""
    scored: dict[str, Any] = {"trial": member.key, "weight": member.weight, "score": member.score, "tta": member.tta}
    if member.target_weights:
        scored["target_weights"] = dict(zip(TARGETS, member.target_weights, strict=True))
    return scored


def member_entry(member: Member) -> dict[str, Any]:
    """A member as blend.json holds it; the recipe is a file of its own."""
    return {name: getattr(member, name) for name in _ENTRY}


def _read_member(folder: Path, entry: dict[str, Any]) -> Member:
    key, backbone, semantic = str(entry["key"]), str(entry["backbone"]), str(entry["semantic"])
    if not key or "/" in key or key.startswith("."):
        raise ValueError(f"member {key!r} leaves the folder")
    weight, folds = float(entry["weight"]), int(entry["folds"])
    target_weights = tuple(float(w) for w in entry["target_weights"])
    if not np.isfinite([weight, *target_weights]).all() or len(target_weights) not in (0, len(TARGETS)):
        raise ValueError(f"member {key!r} has the weight {weight} and the weights {target_weights}")
    imported = not (folds or backbone or semantic)
    if (not target_weights and not 0 < weight <= 1) or (folds < 1 and not imported):
        raise ValueError(f"member {key!r} has the weight {weight} and {folds} models")
    recipe = None
    if not imported:
        if not re.fullmatch("[0-9a-f]{32}", backbone) or not re.fullmatch("([0-9a-f]{32})?", semantic):
            raise ValueError(f"backbone {backbone!r} or {semantic!r} is not a digest")
        source = folder / "members" / key / "recipe.yaml"
        recipe = Recipe.from_yaml(source.read_text(), str(source))
    tta = {str(name): float(score) for name, score in entry["tta"].items()}
    epoch, curve = int(entry["epoch"]), tuple(float(score) for score in entry["curve"])
    score = float(entry["score"])
    return Member(key, weight, target_weights, score, tta, recipe, backbone, semantic, folds, epoch, curve)


def _read_conformal(entry: dict[str, Any] | None) -> Conformal | None:
    if entry is None:
        return None
    offset, width = (tuple(float(v) for v in entry[name]) for name in ("offset", "width"))
    if len(offset) != len(TARGETS) or len(width) != len(TARGETS):
        raise ValueError(f"conformal intervals of {len(width)} targets")
    return Conformal(float(entry["level"]), offset, width)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the blend is not whole, build it again") from None
