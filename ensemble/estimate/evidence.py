"""Data that a blend was judged on: truth, dates, and OOF predictions of the blend and of its members."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from pasture.errors import InputError
from pasture.files import Folder
from pasture.projection import project
from pasture.targets import Array

NAME: Final = "evidence.npz"
_ARRAYS: Final = ("dates", "truth", "predictions", "members", "unseen")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Data that a blend was judged on.

    Attributes:
        image_ids: n ids.
        dates: (n,) sampling date of each image.
        truth: (n, 5) in grams.
        predictions: (n, 8, 5) in grams, OOF of the blend under each element of D4, before the projection that a blend
            with weights for each target ends with; a member whose OOF has the identity alone counts with that under
            all.
        members: (m, n, 5) in grams, OOF of each member with the blend's TTA, heaviest first.
        unseen: (repeats, n, 5) in grams: every image by blends made without its date; no repeats where there is no
            nested score.
        projected: whether there is such a projection.
        refused: (key, reason) of every trial that could not be a member.
        data: location of the data folder that the runs were trained on; empty where they have none.
    """

    image_ids: list[str]
    dates: NDArray[np.str_]
    truth: Array
    predictions: Array
    members: Array
    unseen: Array
    projected: bool
    refused: list[tuple[str, str]]
    data: str = ""

    def blended(self, elements: tuple[int, ...]) -> Array:
        """(n, 5) OOF of the blend in grams with some elements of D4."""
        mean = self.predictions[:, elements].mean(axis=1)
        return project(mean) if self.projected else mean

    def write(self, folder: Folder) -> None:
        """Write evidence.npz.

        Raises:
            JobError: the file cannot be written.
        """
        facts = {"image_ids": self.image_ids, "projected": self.projected, "refused": self.refused, "data": self.data}
        sink = io.BytesIO()
        np.savez_compressed(
            sink,
            facts=np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            dates=self.dates,
            truth=self.truth,
            predictions=self.predictions.astype(np.float32),
            members=self.members.astype(np.float32),
            unseen=self.unseen.astype(np.float32),
        )
        folder.write(NAME, sink.getvalue())

    @classmethod
    def read(cls, folder: Folder) -> Self:
        """Read evidence.npz of a blend folder.

        Raises:
            InputError: the file is missing or damaged.
        """
        if not folder.exists(NAME):
            raise InputError(
                f"{folder}: has no {NAME}, so there is nothing to report on; build it with forage ensemble"
            )
        content = folder.read(NAME)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                facts = json.loads(archive["facts"].tobytes())
                arrays = {name: archive[name] for name in _ARRAYS}
        except Exception as error:  # damaged bytes raise whatever zipfile, zlib, numpy and json raise
            raise InputError(f"{folder}/{NAME}: damaged ({error}); build the blend again") from None
        facts["refused"] = [(key, reason) for key, reason in facts["refused"]]
        numbers = {name: arrays[name].astype(np.float64) for name in _ARRAYS if name != "dates"}
        return cls(dates=arrays["dates"], **numbers, **facts)
