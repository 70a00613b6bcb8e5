"""blend.json: what it holds, and the checks when it is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Final, Self

import numpy as np
from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from ensemble.estimate.conformal import Conformal
from pasture.errors import InputError
from pasture.files import Folder
from pasture.format_number import take_format
from pasture.targets import TARGETS, Array
from pasture.validated import first_error
from trainables.recipe.recipe import Recipe
from trainables.recipe.sections import TtaName

NAME: Final = "blend.json"
FORMAT: Final = 1
"""Of blend folders."""

_CONFIG = ConfigDict(extra="forbid")
_Digest = Annotated[str, Field(pattern="^([0-9a-f]{32})?$")]


@dataclass(frozen=True, config=_CONFIG)
class BlendMember:
    """One member of a blend: its recipe, its weight and the models of its folds.

    Attributes:
        key: `<run>-<trial>`, the name of its folder.
        weight: by most methods the weights of all members sum to 1. Where targets have weights of their own, the mean
            of those by the metric's weights.
        target_weights: five, where targets have weights of their own; else empty.
        score: OOF R2 of the member alone, with the blend's TTA.
        tta: the same with 1, 2, 4 and 8 elements of D4, as far as its OOF has them.
        backbone: digest of its pretrained backbone; empty for an external member.
        semantic: digest of its second backbone; empty where it has none.
        folds: number of its models; its prediction is their mean. 0 for an external member, which has predictions only.
        epoch: 0-based epoch at which its models were saved.
        curve: OOF R2 after every epoch of its trial, up to that one.
        recipe: None for an external member. A file of its own, not part of blend.json.
    """

    key: Annotated[str, Field(pattern=r"^[^./][^/]*$")]
    weight: FiniteFloat
    target_weights: tuple[FiniteFloat, ...]
    score: FiniteFloat
    tta: dict[str, FiniteFloat]
    backbone: _Digest
    semantic: _Digest
    folds: Annotated[int, Field(ge=0)]
    epoch: Annotated[int, Field(ge=0)]
    curve: tuple[FiniteFloat, ...]
    recipe: Annotated[Recipe | None, Field(exclude=True)] = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if len(self.target_weights) not in (0, len(TARGETS)):
            raise ValueError(
                f"member {self.key!r} has {len(self.target_weights)} target weights, expected none or five"
            )
        if not self.target_weights and not 0 < self.weight <= 1:
            raise ValueError(f"member {self.key!r} has the weight {self.weight}, expected more than 0, at most 1")
        if (self.folds == 0) != (self.backbone == "") or (self.semantic and not self.backbone):
            raise ValueError(f"member {self.key!r} has {self.folds} models and the backbone {self.backbone!r}")
        return self

    @property
    def external(self) -> bool:
        """Whether it has no models: another tool made its predictions."""
        return self.folds == 0

    @property
    def shares(self) -> Array:
        """(5,) its weight for each target."""
        return np.array(self.target_weights or (self.weight,) * len(TARGETS))

    @property
    def what(self) -> str:
        """Its backbone, or where it came from."""
        return self.recipe.backbone.name if self.recipe else "external"


@dataclass(frozen=True, config=_CONFIG)
class BlendFile:
    """The content of blend.json.

    Attributes:
        tta: the test-time augmentation that the blend was chosen for.
        fingerprint: of the data that its members were trained on.
        scores: its scores by name, and how it was made.
        conformal: what intervals about its predictions are made from; None where it was judged on too few dates.
        members: heaviest first.
        warnings: what makes the scores too high, or absent.
        versions: of forage and the libraries that wrote it.
        half: digest of each backbone that is stored in half precision, to the digest of its rounded weights.
    """

    tta: TtaName
    fingerprint: str
    scores: dict[str, Any]
    conformal: Conformal | None
    members: tuple[BlendMember, ...]
    warnings: list[str]
    versions: dict[str, Any]
    half: dict[_Digest, _Digest] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        convex = not any(member.target_weights for member in self.members)
        if not self.members or (convex and not np.isclose(sum(member.weight for member in self.members), 1)):
            raise ValueError("the weights of its members do not sum to 1")
        if self.conformal and not len(self.conformal.offset) == len(self.conformal.width) == len(TARGETS):
            raise ValueError(f"conformal: intervals of {len(self.conformal.width)} targets, expected {len(TARGETS)}")
        return self

    def write(self, folder: Folder) -> None:
        """Write blend.json.

        Raises:
            JobError: the file cannot be written.
        """
        content = {"format": FORMAT, **_SCHEMA.dump_python(self, mode="json")}
        folder.write(NAME, json.dumps(content, indent=2).encode())

    @classmethod
    def read(cls, folder: Path) -> BlendFile:
        """Read blend.json, without the recipes.

        Raises:
            InputError: no blend folder, one of a newer forage, or the file is damaged.
        """
        source = folder / NAME
        if not source.is_file():
            raise InputError(f"{folder}: not a blend folder (no {NAME}); give one that `forage ensemble` wrote")
        try:
            content = json.loads(source.read_bytes())
            if not isinstance(content, dict):
                raise ValueError("expected an object")
        except OSError as error:
            raise InputError(f"{source}: not readable ({error.strerror})") from None
        except ValueError as error:
            raise InputError(f"{source}: damaged ({error}); build the blend again") from None
        take_format(content, FORMAT, str(source))
        try:
            return _SCHEMA.validate_json(json.dumps(content))
        except ValidationError as error:
            raise InputError(f"{source}: damaged ({first_error(error)}); build the blend again") from None


_SCHEMA: Final = TypeAdapter(BlendFile)
