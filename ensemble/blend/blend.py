"""The blend folder: everything that prediction needs, and nothing that points elsewhere.

blend.json                              members and weights, scores, TTA, fingerprint, versions
members/<run>-<trial>/recipe.yaml       and fold<k>.safetensors: what differs from the pretrained backbone; neither
                                        for an external member
backbones/<digest>.safetensors          each pretrained backbone, once
oof.parquet                             OOF prediction of the blend
evidence.npz                            what the report page is made from
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ensemble.blend.blend_file import BlendFile, BlendMember
from ensemble.estimate.conformal import Conformal
from ensemble.estimate.evidence import Evidence
from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.targets import TARGETS
from trainables.network.weights_file import unpack
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import TtaName


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
        warnings: what makes the scores too high, or absent.
        half: digest of each backbone that is stored in half precision, to the digest of its rounded weights.
        evidence: what it was judged on, where it has just been built; else None: `Evidence.read` reads it.
    """

    folder: Path
    tta: TtaName
    fingerprint: str
    members: tuple[BlendMember, ...]
    estimate: dict[str, Any]
    conformal: Conformal | None
    warnings: list[str]
    half: dict[str, str] = dataclasses.field(default_factory=dict)
    evidence: Evidence | None = None

    def scores(self) -> dict[str, Any]:
        """What `forage ensemble --json` prints."""
        return {**self.estimate, "members": [_scored(member) for member in self.members]}

    def fold_weights(self, member: BlendMember, fold: int) -> dict[str, Tensor]:
        """Weights of one of a member's models."""
        return _read_safetensors(self.folder / "members" / member.key / f"fold{fold}.safetensors")

    def backbone_weights(self, digest: str) -> dict[str, Tensor]:
        """Weights of a pretrained backbone."""
        return _read_safetensors(self.folder / "backbones" / f"{digest}.safetensors")

    def image_ids(self) -> list[str]:
        """Ids of the images on which the blend was fitted."""
        return OofTable.read(Folder.at(self.folder), "oof.parquet").image_ids

    @classmethod
    def of(cls, folder: Path, content: BlendFile, evidence: Evidence | None = None) -> Blend:
        """From blend.json with the recipes filled in."""
        return cls(
            folder=folder,
            tta=content.tta,
            fingerprint=content.fingerprint,
            members=content.members,
            estimate=content.scores,
            conformal=content.conformal,
            warnings=content.warnings,
            half=content.half,
            evidence=evidence,
        )

    @classmethod
    def read(cls, folder: Path) -> Blend:
        """Read a blend folder.

        Raises:
            InputError: not a blend folder, or damaged.
        """
        content = BlendFile.read(folder)
        members = tuple(
            member if member.external else dataclasses.replace(member, recipe=_read_recipe(folder, member.key))
            for member in content.members
        )
        return cls.of(folder, dataclasses.replace(content, members=members))


def _scored(member: BlendMember) -> dict[str, Any]:
    """Description of a member, printed beside the blend's scores."""
    scored: dict[str, Any] = {"trial": member.key, "weight": member.weight, "score": member.score, "tta": member.tta}
    if member.target_weights:
        scored["target_weights"] = dict(zip(TARGETS, member.target_weights, strict=True))
    return scored


def _read_recipe(folder: Path, key: str) -> Recipe:
    source = folder / "members" / key / "recipe.yaml"
    try:
        return Recipe.from_yaml(source.read_text(), str(source))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{source}: not readable ({error}); build the blend again") from None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return unpack(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the blend is incomplete, build it again") from None
