"""The library of models that a blend is made from, as arrays: what every method is fitted to and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ensemble.members.pool import Member, Pool
from ensemble.weighting.greedy import Gram
from pasture.projection import project
from pasture.targets import WEIGHTS, Array


@dataclass(frozen=True, eq=False)
class Epochs:
    """OOF of every epoch of a member whose epoch was chosen by score, for all images.

    Attributes:
        own: the epoch that was chosen on all images.
        predictions: (n, 5) in grams, at epoch `own` with TTA.
        plain: (E, n, 5) in grams, every epoch without TTA.
        losses: (E, days) weighted residual sum of squares of every epoch on every day.
    """

    own: int
    predictions: Array
    plain: NDArray[np.float32]
    losses: Array

    @classmethod
    def of(cls, member: Member, truth: Array, day: NDArray[np.intp]) -> Epochs | None:
        """None where the epoch was not chosen by score, or the OOF of every epoch was not kept."""
        if member.epochs is None:
            return None
        of_day = np.eye(day.max() + 1)[day]  # (n, days)
        losses = np.asarray(((member.epochs - truth) ** 2 @ WEIGHTS) @ of_day)
        return cls(member.epoch, member.predictions, member.epochs, losses)

    def best_on(self, days: NDArray[np.intp]) -> Array:
        """(n, 5) predictions at the epoch that is best on some days.

        That epoch is chosen without TTA; its OOF is then used without TTA unless it is `own`, whose OOF under TTA was
        kept.
        """
        epoch = int(self.losses[:, days].sum(axis=1).argmin())
        return self.predictions if epoch == self.own else self.plain[epoch]


@dataclass(frozen=True, eq=False)
class Library:
    """Predictions of m members for n images of known truth.

    Attributes:
        truth: (n, 5) in grams.
        predictions: (m, n, 5) in grams, each member at the epoch that is best on these images.
        day: (n,) number of each image's date.
        backbones: m names.
        recipes: m names; members of one name are one recipe trained with several seeds.
        start: (m,) whether the member's recipe belongs to the start portfolio, which no search proposed.
        rows: (n,) position of each image in the arrays of `epochs`.
        epochs: m; None for a member whose epoch is not chosen by score.
    """

    truth: Array
    predictions: Array
    day: NDArray[np.intp]
    backbones: tuple[str, ...]
    recipes: tuple[str, ...]
    start: NDArray[np.bool_]
    rows: NDArray[np.intp]
    epochs: tuple[Epochs | None, ...]

    @classmethod
    def of(cls, pool: Pool) -> Library:
        """All images of a pool, every member at its own epoch."""
        day = np.unique(pool.dates, return_inverse=True)[1]
        return cls(
            truth=pool.truth,
            predictions=pool.predictions,
            day=day,
            backbones=tuple(pool.backbones),
            recipes=tuple(member.recipe_without_seeds for member in pool.members),
            start=np.array([member.origin == "start" for member in pool.members]),
            rows=np.arange(len(day)),
            epochs=tuple(Epochs.of(member, pool.truth, day) for member in pool.members),
        )

    @classmethod
    def of_arrays(
        cls,
        truth: Array,
        predictions: Array,
        dates: ArrayLike,
        backbones: Sequence[str] | None = None,
        recipes: Sequence[str] | None = None,
    ) -> Library:
        """From (n, 5) truth and (m, n, 5) OOF predictions in grams, of images with (n,) dates.

        Args:
            truth: in grams.
            predictions: in grams; no epoch is chosen by score.
            dates: (n,) of any type that sorts.
            backbones: m names; by default every member has its own.
            recipes: m names, the same for members that differ only in their seed; by default every member has its own.
        """
        names = tuple(map(str, range(len(predictions))))
        return cls(
            truth=truth,
            predictions=predictions,
            day=np.unique(np.asarray(dates), return_inverse=True)[1],
            backbones=names if backbones is None else tuple(backbones),
            recipes=names if recipes is None else tuple(recipes),
            start=np.zeros(len(predictions), dtype=bool),
            rows=np.arange(len(truth)),
            epochs=(None,) * len(predictions),
        )

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

    @cached_property
    def recipe_number(self) -> NDArray[np.intp]:
        """(m,) number of each member's recipe, in the order in which recipes first appear."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(recipe, len(numbers)) for recipe in self.recipes], dtype=np.intp)

    def split(self, held_out: NDArray[np.intp]) -> tuple[Library, Library]:
        """The images of the other days and those of some days, every member at the epoch that is best on the former."""
        others = np.setdiff1d(self.days, held_out)
        predictions = self.predictions.copy()
        for i, epochs in enumerate(self.epochs):
            if epochs is not None:
                predictions[i] = epochs.best_on(others)[self.rows]
        held = self._of(held_out)
        return self._part(predictions, ~held), self._part(predictions, held)

    def on(self, days: NDArray[np.intp]) -> Library:
        """The images of some days."""
        return self._part(self.predictions, self._of(days))

    def mean_over_seeds(self) -> Library:
        """One member a recipe: the mean of the members that differ only in their seed.

        `split` cannot choose its epochs again.
        """
        number = self.recipe_number
        if number.max() + 1 == len(self):
            return self
        first = np.unique(number, return_index=True)[1]
        sums = np.zeros((len(first), *self.truth.shape))
        np.add.at(sums, number, self.predictions)
        return Library(
            truth=self.truth,
            predictions=sums / np.bincount(number)[:, None, None],
            day=self.day,
            backbones=tuple(self.backbones[i] for i in first),
            recipes=tuple(self.recipes[i] for i in first),
            start=self.start[first],
            rows=self.rows,
            epochs=(None,) * len(first),
        )

    def members(self, kept: NDArray[np.intp]) -> Library:
        """Some of the members, by their positions."""
        if len(kept) == len(self):
            return self
        return Library(
            truth=self.truth,
            predictions=self.predictions[kept],
            day=self.day,
            backbones=tuple(self.backbones[i] for i in kept),
            recipes=tuple(self.recipes[i] for i in kept),
            start=self.start[kept],
            rows=self.rows,
            epochs=tuple(self.epochs[i] for i in kept),
        )

    def _of(self, days: NDArray[np.intp]) -> NDArray[np.bool_]:
        """(n,) whether each image is of one of some days."""
        chosen = np.zeros(self.day.max() + 1, dtype=bool)
        chosen[days] = True
        return chosen[self.day]

    def _part(self, predictions: Array, images: NDArray[np.bool_]) -> Library:
        return Library(
            truth=self.truth[images],
            predictions=predictions[:, images],
            day=self.day[images],
            backbones=self.backbones,
            recipes=self.recipes,
            start=self.start,
            rows=self.rows[images],
            epochs=self.epochs,
        )


def combine(weights: Array, predictions: Array) -> Array:
    """Prediction of a blend: (..., 5) in grams from (m, 5) weights and (m, ..., 5) predictions.

    Weights that are the same for all targets keep the mass balance of the members; others do not, so that the result is
    then projected onto it.
    """
    blended = np.einsum("mt,m...t->...t", weights, predictions)
    return blended if shared(weights) else project(blended)


def shared(weights: Array) -> bool:
    """Whether each member of (m, 5) weights has one weight for all targets."""
    return bool((weights == weights[:, :1]).all())
