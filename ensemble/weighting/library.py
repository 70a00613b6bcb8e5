"""The library of models that a blend is made from, as arrays: what every method is fitted to and judged on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ensemble.members.members import Candidate, Pool
from ensemble.weighting.greedy import Gram
from pasture.projection import project
from pasture.targets import WEIGHTS, Array


@dataclass(frozen=True, eq=False)
class Library:
    """Predictions of m members for n images of known truth, and what else was chosen by score: their epochs.

    Attributes:
        truth: (n, 5) in grams.
        predictions: (m, n, 5) in grams, each member at the epoch that is best on these images.
        day: (n,) number of each image's date.
        backbones: m names.
        rows: (n,) position of each image in the candidates' arrays.
        candidates: the m members, over all images.
        losses: for each member (E, days) residual sum of squares without TTA, of every epoch on every day; None where
            the OOF of every epoch was not kept.
    """

    truth: Array
    predictions: Array
    day: NDArray[np.intp]
    backbones: tuple[str, ...]
    rows: NDArray[np.intp]
    candidates: tuple[Candidate, ...]
    losses: tuple[Array | None, ...]

    @classmethod
    def of(cls, pool: Pool) -> Library:
        """All images of a pool, every candidate at its own epoch."""
        day = np.unique(pool.dates, return_inverse=True)[1]
        losses = tuple(_epoch_losses(candidate, pool.truth, day) for candidate in pool.candidates)
        rows, backbones = np.arange(len(day)), tuple(pool.backbones)
        return cls(pool.truth, pool.predictions, day, backbones, rows, tuple(pool.candidates), losses)

    def __len__(self) -> int:
        return len(self.predictions)

    @cached_property
    def gram(self) -> Gram:
        """Of the members' residuals."""
        return Gram(self.truth, self.predictions)

    @cached_property
    def days(self) -> NDArray[np.intp]:
        """The distinct days of these images."""
        return np.unique(self.day)

    def split(self, held_out: NDArray[np.intp]) -> tuple[Library, Library]:
        """The images of the other days and those of some days, every member at the epoch that is best on the former.

        That epoch is chosen without TTA; its OOF is then used without TTA unless it is the candidate's own, whose OOF
        under TTA was kept.
        """
        others = np.setdiff1d(self.days, held_out)
        predictions = self.predictions.copy()
        for i, (candidate, loss) in enumerate(zip(self.candidates, self.losses, strict=True)):
            if loss is None or candidate.epochs is None:
                continue
            epoch = int(loss[:, others].sum(axis=1).argmin())
            own = epoch == candidate.epoch
            predictions[i] = candidate.predictions[self.rows] if own else candidate.epochs[epoch][self.rows]
        held = self._of(held_out)
        return self._part(predictions, ~held), self._part(predictions, held)

    def on(self, days: NDArray[np.intp]) -> Library:
        """The images of some days."""
        return self._part(self.predictions, self._of(days))

    def _of(self, days: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) whether each image is of one of some days."""
        chosen = np.zeros(self.day.max() + 1, dtype=bool)
        chosen[days] = True
        return chosen[self.day]

    def _part(self, predictions: Array, images: NDArray[np.bool_]) -> Library:
        return Library(
            self.truth[images],
            predictions[:, images],
            self.day[images],
            self.backbones,
            self.rows[images],
            self.candidates,
            self.losses,
        )


def combine(weights: Array, predictions: Array) -> Array:
    """What a blend predicts: (..., 5) in grams from (m, 5) weights and (m, ..., 5) predictions.

    Weights that are the same for all targets keep the mass balance of the members; others do not, so that the result is
    then projected onto it.
    """
    blended = np.einsum("mt,m...t->...t", weights, predictions)
    return blended if shared(weights) else project(blended)


def shared(weights: Array) -> bool:
    """Whether each member of (m, 5) weights has one weight for all targets."""
    return bool((weights == weights[:, :1]).all())


def _epoch_losses(candidate: Candidate, truth: Array, day: NDArray[np.intp]) -> Array | None:
    if candidate.epochs is None:
        return None
    of_day = np.eye(day.max() + 1)[day]  # (n, days)
    return np.asarray(((candidate.epochs - truth) ** 2 @ WEIGHTS) @ of_day)
