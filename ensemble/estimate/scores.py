"""Scores of a blend: on the images it was fitted to, and on dates that it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ensemble.estimate.interval import FEWEST_DATES, interval, replicates
from ensemble.weighting.auto import procedure as make_procedure
from ensemble.weighting.library import Library, combine
from ensemble.weighting.methods import fit_method
from ensemble.weighting.nested import deal, losses_by_day, nested_predictions, standard_error
from ensemble.weighting.optimum import convex_optimum
from ensemble.weighting.options import DEFAULT_METHOD, Options
from ensemble.weighting.procedure import Choice, Fit, Procedure, once
from pasture.metric import baseline_r2, weighted_r2
from pasture.targets import TARGETS, Array


@dataclass(frozen=True)
class StartPortfolio:
    """The plain mean of the members that no search proposed, beside the blend.

    Attributes:
        members: how many.
        nested: R2 of their mean, judged as the blend's nested score is.
        ahead: nested R2 of the blend less that of their mean.
        error: standard error of `ahead` over dates, from the paired differences of the losses on each date.
    """

    members: int
    nested: float
    ahead: float
    error: float

    @property
    def level(self) -> bool:
        """Whether the blend is not ahead by more than one standard error."""
        return self.ahead <= self.error


@dataclass(frozen=True, eq=False)
class Estimate:
    """The scores (R2) of a blend, side by side.

    Attributes:
        weights: (m, 5) of the blend: fitted to all images.
        choice: the method that `auto` chose on all images, and why; None where the method was given.
        best_single: best member of the library.
        uniform: mean of all members of the library.
        fitted: the blend on the images it was fitted to; too high.
        nested: the blending procedure on dates it has not seen; the one to quote. None if there is one date only.
        interval: 95 % interval of `nested`, by leaving out each date in turn; None where there are too few.
        uniform_nested: the mean of all members, judged as `nested` is.
        start: the blend beside the start portfolio; None where no member, or every member, belongs to it.
        optimum: best of all convex weights on these images; no convex blend can be fitted better.
        baseline: predicting each target's mean.
        unseen: (repeats, n, 5) in grams: every image by blends made without its date; None where `nested` is.
        notes: what the reader of these numbers should know.
    """

    weights: Array
    choice: Choice | None
    best_single: float
    uniform: float
    fitted: float
    nested: float | None
    interval: tuple[float, float] | None
    uniform_nested: float | None
    start: StartPortfolio | None
    optimum: float
    baseline: float
    unseen: Array | None
    notes: tuple[str, ...]

    @property
    def gap(self) -> float:
        """R2 by which the fitted score is below the best of all convex weights; negative where a method that is not
        limited to them is above."""
        return self.optimum - self.fitted


def evaluate(library: Library, procedure: Procedure | None = None, *, repeats: int = 5, seed: int = 0) -> Estimate:
    """Fit a blend to all images, and score it on them and on dates that it was not fitted to.

    The nested score: every image is predicted by a blend made without its date (`nested_predictions`), which gives one
    R2; `nested` is its mean over `repeats` groupings of the dates. The whole procedure is inside: the choice of every
    member's epoch (where the recipe chooses it by score), of the members, of their weights, of the penalties that those
    depend on and, where `procedure` chooses one, of the method. Its interval is explained at `interval`.

    Why that is not biased by the fit: every row, in the fit and in the score, is out of fold for its member, whatever
    that member's folds were, so that no model is judged on an image (nor, where folds keep dates together, on a date:
    see the rules of `load_members`) it was trained on; and the weights that predict a date were fitted to rows of other
    dates. Members may therefore differ in their folds. What remains is what stacking always leaves: the models behind
    the fit's rows were trained with the outer dates among their training images, and the search that proposed the
    recipes saw their scores on all dates.

    Args:
        library: the members.
        procedure: how members and weights are chosen; the default method where None.
        repeats: number of groupings.
        seed: draws the groupings.
    """
    procedure = once(procedure or make_procedure(DEFAULT_METHOD, Options()))
    decided = procedure(library)
    weights = decided.fit(library)
    held_out = _held_out(library, procedure, repeats, seed)
    return Estimate(
        weights=weights,
        choice=decided.choice,
        best_single=float(library.gram.members_r2().max()),
        uniform=weighted_r2(library.truth, combine(_uniform(library), library.predictions)),
        fitted=weighted_r2(library.truth, combine(weights, library.predictions)),
        nested=held_out.nested,
        interval=held_out.interval,
        uniform_nested=held_out.uniform,
        start=held_out.start,
        optimum=library.gram.r2(convex_optimum(library.gram)),
        baseline=baseline_r2(library.truth),
        unseen=held_out.unseen,
        notes=held_out.notes,
    )


class _HeldOut(NamedTuple):
    """Scores from dates held out; the fields are those of `Estimate`."""

    nested: float | None = None
    uniform: float | None = None
    interval: tuple[float, float] | None = None
    start: StartPortfolio | None = None
    unseen: Array | None = None
    notes: tuple[str, ...] = ()


def _held_out(library: Library, procedure: Procedure, repeats: int, seed: int) -> _HeldOut:
    if len(library.days) < 2:
        return _HeldOut(notes=("no nested score: all images are of one date, there is none to hold out",))
    groupings = deal(library, repeats, np.random.default_rng(seed))
    fits: dict[str, Fit] = {"blend": lambda part: procedure(part).fit(part), **_plain_means(library)}
    predicted = nested_predictions(library, fits, groupings)
    bounds, notes = None, []
    if len(library.days) >= FEWEST_DATES:
        bounds = interval(library, predicted["blend"], replicates(library, procedure, groupings))
        if bounds is None:
            notes.append("no interval: without one of the dates, all photographs have the same weights")
    else:
        notes.append(f"no interval: {len(library.days)} dates are too few, it takes {FEWEST_DATES}")
    return _HeldOut(
        nested=_mean_r2(library, predicted["blend"]),
        uniform=_mean_r2(library, predicted["uniform"]),
        interval=bounds,
        start=_beside_start(library, predicted),
        unseen=predicted["blend"],
        notes=tuple(notes),
    )


def _uniform(library: Library) -> Array:
    return fit_method("uniform", library, Options())


def _plain_means(library: Library) -> dict[str, Fit]:
    """The mean of all members, and that of the start portfolio where it is some of them."""
    if library.start.any() and not library.start.all():
        start = np.repeat((library.start / library.start.sum())[:, None], len(TARGETS), axis=1)
        return {"uniform": _uniform, "start": lambda _: start}
    return {"uniform": _uniform}


def _beside_start(library: Library, predicted: dict[str, Array]) -> StartPortfolio | None:
    if "start" not in predicted:
        return None
    total = library.gram.total
    gain = (losses_by_day(library, predicted["start"]) - losses_by_day(library, predicted["blend"])) / total
    members = int(library.start.sum())
    return StartPortfolio(
        members, _mean_r2(library, predicted["start"]), float(gain.sum()), float(standard_error(gain))
    )


def _mean_r2(library: Library, predictions: Array) -> float:
    """Mean over repeats of the R2 of (repeats, n, 5) predictions."""
    return float(np.mean([weighted_r2(library.truth, repeat) for repeat in predictions]))
