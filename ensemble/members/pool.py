"""The members that may be blended, as arrays with rows in one order."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pasture.run_folder import RunFolder
from pasture.targets import Array


@dataclass(frozen=True, eq=False)
class Member:
    """One finished trial, or the predictions of another tool; rows in the order of `Pool.image_ids`.

    Attributes:
        key: `<run>-<trial>`, unique in its pool.
        run: where its OOF was read and its weights lie.
        trial: its name in that run.
        recipe: the recipe as a mapping of sections; empty for an external member.
        recipe_hash: content hash of the recipe.
        score: R2 of `predictions` (with TTA), not the score that the trial reported (without).
        epoch: 0-based epoch of `predictions`, an index into `epochs`.
        predictions: (n, 5) OOF in grams, mean over the D4 elements of the TTA.
        epochs: (E, n, 5) OOF in grams of every epoch without TTA, projected; None where the epoch was not chosen by
            score, or where the run kept none.
        folds: (n,) the fold in which each image was held out; -1 where that is not known.
        backbone_digest: hash of the pretrained weights it was trained on; empty for an external member.
        semantic_digest: the same of its second backbone; empty where it has none.
        curve: R2 after every epoch up to its own, as the trial reported it.
        origin: "start" for a recipe of the space's start portfolio, which no search proposed; else "search".
        external: whether another tool made the predictions, so that there are no models.
    """

    key: str
    run: RunFolder
    trial: str
    recipe: dict[str, Any]
    recipe_hash: str
    score: float
    epoch: int
    predictions: Array
    epochs: NDArray[np.float32] | None
    folds: NDArray[np.int8]
    backbone_digest: str = ""
    semantic_digest: str = ""
    curve: tuple[float, ...] = ()
    origin: str = "search"
    external: bool = False

    @property
    def backbone(self) -> str:
        """Name of its backbone; the key where the recipe names none (an external member)."""
        return str(self.recipe.get("backbone", {}).get("name", self.key))

    @property
    def recipe_without_seeds(self) -> str:
        """The same text for members whose recipes differ in `seed` and `validation.seed` only."""
        if not self.recipe:
            return self.key
        recipe = {name: value for name, value in self.recipe.items() if name != "seed"}
        if "validation" in recipe:
            recipe["validation"] = {k: v for k, v in recipe["validation"].items() if k != "seed"}
        return json.dumps(recipe, sort_keys=True)


@dataclass(frozen=True, eq=False)
class Pool:
    """Members that may be blended, and why the others may not.

    Attributes:
        image_ids: n ids, sorted; the order of all arrays.
        truth: (n, 5) in grams.
        dates: (n,) sampling date of each image.
        fingerprint: of the data on which all members were trained.
        members: m members in the order of their keys.
        refused: (key, reason) of every OOF file that is not among the members.
        warnings: what makes the scores of all members too high or unknown.
    """

    image_ids: list[str]
    truth: Array
    dates: NDArray[np.str_]
    fingerprint: str
    members: list[Member]
    refused: list[tuple[str, str]]
    warnings: list[str]

    @property
    def predictions(self) -> Array:
        """(m, n, 5) in grams: every member's predictions, a new array."""
        return np.stack([member.predictions for member in self.members])

    @property
    def backbones(self) -> list[str]:
        """m names: the backbone of every member."""
        return [member.backbone for member in self.members]
