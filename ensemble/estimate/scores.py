"""What a blend is worth: on the data it was fitted to, and on dates that it was not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ensemble.estimate.interval import FEWEST_DATES, interval, replicates
from ensemble.members.members import Pool
from ensemble.weighting.auto import procedure as make_procedure
from ensemble.weighting.greedy import Options
from ensemble.weighting.library import Library, combine
from ensemble.weighting.nested import Procedure, deal, nested_predictions, once, whole
from ensemble.weighting.optimum import convex_optimum
from pasture.metric import baseline_r2, weighted_r2
from pasture.targets import Array


@dataclass(frozen=True, eq=False)
class Estimate:
    """The scores (R2) of a blend, side by side.

    Attributes:
        weights: (m, 5) of the blend: fitted to all images.
        best_single: best candidate.
        uniform: mean of all candidates.
        fitted: the blend on the images it was fitted to; it flatters.
        nested: the blending procedure on dates it has not seen; the one to quote. None if there is one date only.
        interval: 95 % interval of `nested`, by leaving out each date in turn; None where there are too few.
        uniform_nested: the mean of all candidates, judged as `nested` is.
        optimum: best of all convex weights on these images; no convex blend can be fitted better.
        baseline: predicting each target's mean.
        unseen: (repeats, n, 5) in grams: every image by blends made without its date; None where `nested` is.
        notes: what the reader of these numbers should know.
    """

    weights: Array
    best_single: float
    uniform: float
    fitted: float
    nested: float | None
    interval: tuple[float, float] | None
    uniform_nested: float | None
    optimum: float
    baseline: float
    unseen: Array | None
    notes: tuple[str, ...]

    @property
    def gap(self) -> float:
        """R2 by which the fitted score is below the best of all convex weights; negative where a method that is not
        bound to them is above."""
        return self.optimum - self.fitted


def evaluate(pool: Pool, procedure: Procedure | None = None, *, repeats: int = 5, seed: int = 0) -> Estimate:
    """Fit a blend to all images and say what it is worth, here and on new dates.

    The nested score: every image is predicted by a blend made without its date (`nested_predictions`), which gives one
    R2; `nested` is its mean over `repeats` groupings of the dates. The whole procedure is inside: the choice of every
    member's epoch, of the members, of their weights, of the penalties that those depend on and, where `procedure`
    chooses one, of the method. Its interval is explained at `interval`.

    Why that is honest: every row, in the fit and in the score, is out of fold for its member, whatever that member's
    folds were, so that no model is judged on an image (nor, where folds keep dates together, on a date: see the rules
    of `load_candidates`) it was trained on; and the weights that predict a date were fitted to rows of other dates.
    Members may therefore differ in their folds. What remains is what stacking always leaves: the models behind the
    fit's rows were trained with the outer dates among their training images, and the search that proposed the
    candidates saw their scores on all dates.

    Args:
        pool: the candidates.
        procedure: how members and weights are chosen; greedy selection by default.
        repeats: number of groupings.
        seed: deals the dates.
    """
    procedure = once(procedure or make_procedure("greedy", Options()))
    library, fit = Library.of(pool), whole(procedure)
    weights = fit(library)
    notes = []
    if unknown := sum(c.epochs is None for c in pool.candidates):
        notes.append(f"{unknown} candidate(s) have no OOF of every epoch: theirs was chosen with all dates in sight")
    nested = bounds = uniform_nested = unseen = None
    if len(library.days) < 2:
        notes = [f"no nested score: all images are of one date ({pool.dates[0]}), there is none to hold out"]
    else:
        groupings = deal(library, repeats, np.random.default_rng(seed))
        uniform = whole(make_procedure("uniform", Options()))
        predicted = nested_predictions(library, {"blend": fit, "uniform": uniform}, groupings)
        unseen = predicted["blend"]
        nested, uniform_nested = (
            float(np.mean([weighted_r2(library.truth, repeat) for repeat in predicted[name]]))
            for name in ("blend", "uniform")
        )
        if len(library.days) >= FEWEST_DATES:
            bounds = interval(library, unseen, replicates(library, procedure, groupings))
            if bounds is None:
                notes.append("no interval: but for one date, all photographs have the same weights")
        else:
            notes.append(f"no interval: {len(library.days)} dates are too few, it takes {FEWEST_DATES}")
    gram = library.gram
    return Estimate(
        weights=weights,
        best_single=float(gram.members_r2().max()),
        uniform=gram.r2(np.full(len(gram), 1 / len(gram))),
        fitted=weighted_r2(library.truth, combine(weights, library.predictions)),
        nested=nested,
        interval=bounds,
        uniform_nested=uniform_nested,
        optimum=gram.r2(convex_optimum(gram)),
        baseline=baseline_r2(library.truth),
        unseen=unseen,
        notes=tuple(notes),
    )
