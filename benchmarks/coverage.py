"""How often the intervals hold what they are to hold, on simulated paddocks whose truth is known.

    OMP_NUM_THREADS=1 python -m benchmarks.coverage [--seeds N] [--first SEED] [--kind WORDS]

Prints one row a kind of problem, over N seeds from SEED (0) on:

  expected R2        what the blend is to be expected to have on a new set of as many dates and photographs; the nested
                     score less that, with its standard error, and the fitted score less that, which is by how much it
                     flatters
  log error          of the nested score on the scale of log(1 - R2), where the interval is made; held against the
                     interval's median width there, divided by 2 x 1.96: less than the sd is too narrow
  holds expected     how often the 95 % interval holds the expected R2; how often that is below it, and above
  holds many         how often it holds the R2 on infinitely many dates, which is higher: there a set's mean, which R2
                     is measured from, is not drawn toward its own dates
  conformal          share of photographs of new dates, all targets, inside the 90 % interval of their prediction, the
                     mean over dates

The blend is that of `forage ensemble` but for two things that cost time and change little: greedy selection walks 50
steps, not 200, and the nested score is of one grouping, not five.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.estimate.conformal import calibrate
from ensemble.estimate.scores import evaluate
from ensemble.weighting.auto import procedure
from ensemble.weighting.library import Library
from ensemble.weighting.options import Options
from pasture.targets import TARGETS, WEIGHTS, Array, from_components

REAL_SIZES = (1,) * 12 + (2,) * 4 + (3,) * 4 + (4,) * 4 + (5,) * 2 + (7,) * 2
"""Photographs on each date of the 72 that the competition shows."""
PLAIN_GREEDY = procedure("greedy", Options(steps=50))


@dataclass(frozen=True)
class Kind:
    """Paddocks and models. All errors are normal, given their date, and in grams.

    Attributes:
        sizes: photographs on each date.
        members: how many models.
        spread: range of the standard deviation of a model's own errors on a photograph.
        date_spread: the same of its own errors on a date.
        together: standard deviation of the errors on a date that all models share.
        level: the biomass of dates is gamma distributed with this shape: the smaller, the more skewed.
        heavy: whether dates differ in how hard they are, so that errors have the tails of Student's t of 4 degrees.
    """

    sizes: tuple[int, ...]
    members: int
    spread: tuple[float, float] = (4, 12)
    date_spread: tuple[float, float] = (4, 8)
    together: float = 0.0
    level: float = 8.0
    heavy: bool = False


KINDS = {
    "30 dates x 4, 40 members": Kind((4,) * 30, 40),
    "18 dates x 4, 40 members": Kind((4,) * 18, 40),
    "10 dates x 4, 40 members": Kind((4,) * 10, 40),
    "10 dates x 4, 5 members": Kind((4,) * 10, 5),
    "10 dates x 4, 1 member": Kind((4,) * 10, 1),
    "28 dates of 1 to 7, 40 members": Kind(REAL_SIZES, 40),
    "28 of 1 to 7, 40 equally good": Kind(REAL_SIZES, 40, (8, 8), (6, 6)),
    "28 of 1 to 7, 40 far apart": Kind(REAL_SIZES, 40, (2, 30), (1, 15)),
    "28 of 1 to 7, dates err together": Kind(REAL_SIZES, 40, together=6.0, heavy=True),
    "28 of 1 to 7, few rich dates": Kind(REAL_SIZES, 40, together=3.0, level=1.5),
    "28 of 5 to 35, 34 members": Kind(tuple(5 * size for size in REAL_SIZES), 34),
}


class Paddocks(NamedTuple):
    """(n, 5) truth in grams, (n,) number of the date, (dates,) how hard each date is."""

    truth: Array
    day: NDArray[np.intp]
    hardness: Array


SHARED_G = 4.0
"""Standard deviation of the errors on a photograph that all models share."""


def paddocks(rng: np.random.Generator, kind: Kind) -> Paddocks:
    """New ones."""
    dates = len(kind.sizes)
    day = np.arange(dates).repeat(kind.sizes)
    level = rng.gamma(kind.level, 1 / kind.level, (dates, 1))[day]
    components = level * rng.gamma(8.0, 1 / 8, (len(day), 3)) * [25.0, 10.0, 6.0]
    hardness = np.sqrt(2 / rng.chisquare(4, dates)) if kind.heavy else np.ones(dates)
    return Paddocks(from_components(components), day, hardness)


class Models:
    """Models that can be shown any paddocks."""

    def __init__(self, rng: np.random.Generator, kind: Kind) -> None:
        self.kind = kind
        self.spread = rng.uniform(*kind.spread, kind.members)
        self.date_spread = rng.uniform(*kind.date_spread, kind.members)

    def predict(self, rng: np.random.Generator, new: Paddocks) -> Array:
        """(m, n, 5) in grams."""
        images, dates, m = len(new.truth), len(new.hardness), len(self.spread)
        shape = (len(TARGETS),)
        error = rng.normal(0, SHARED_G, (images, *shape))
        error = error + rng.normal(0, 1, (dates, *shape))[new.day] * self.kind.together
        own = rng.normal(0, 1, (m, images, *shape)) * self.spread[:, None, None]
        of_date = rng.normal(0, 1, (m, dates, *shape))[:, new.day] * self.date_spread[:, None, None]
        return np.asarray(new.truth + new.hardness[new.day][:, None] * (error + own + of_date))

    def blend_spread(self, weights: Array) -> tuple[float, float]:
        """Standard deviation of a blend's errors on a photograph and on a date, from (m,) weights that sum to 1."""
        alone = SHARED_G**2 + float(weights**2 @ self.spread**2)
        of_date = self.kind.together**2 + float(weights**2 @ self.date_spread**2)
        return alone**0.5, of_date**0.5


class Fresh:
    """Sets of new paddocks of one kind, on which the R2 of any blend is known at once.

    With z and u standard normal on photographs and on dates, a blend errs by a z + b u: its residual sum of squares on
    a set is a^2 zz + 2ab zu + b^2 uu.
    """

    def __init__(self, kind: Kind, sets: int = 2000) -> None:
        rng = np.random.default_rng(987_654)
        rows, moments = [], np.zeros(3)
        for _ in range(sets):
            new = paddocks(rng, kind)
            hardness = new.hardness[new.day][:, None]
            z = hardness * rng.normal(size=new.truth.shape)
            u = hardness * rng.normal(size=(len(kind.sizes), len(TARGETS)))[new.day]
            mean = float((new.truth @ WEIGHTS).mean() / WEIGHTS.sum())
            rows.append([float((p @ WEIGHTS).sum()) for p in (z * z, 2 * z * u, u * u, (new.truth - mean) ** 2)])
            moments += [float((new.truth**k @ WEIGHTS).sum()) for k in range(3)]
        self.zz, self.zu, self.uu, self.total = np.array(rows).T
        self.variance = moments[2] / moments[0] - (moments[1] / moments[0]) ** 2
        self.squares = float(np.mean(self.zz)) / (moments[0] / sets)

    def expected(self, a: float, b: float) -> float:
        """Mean R2 on a new set."""
        return float(np.mean(1 - (a * a * self.zz + a * b * self.zu + b * b * self.uu) / self.total))

    def many(self, a: float, b: float) -> float:
        """R2 on infinitely many dates."""
        return float(1 - (a * a + b * b) * self.squares / self.variance)


class Outcome(NamedTuple):
    """One seed: the blend's true scores, what was said of it, and how many photographs its conformal intervals held."""

    expected: float
    many: float
    nested: float
    fitted: float
    low: float
    high: float
    conformal: float


def simulate(kind: Kind, fresh: Fresh, seed: int) -> Outcome:
    """One problem, its blend and its blend's true worth."""
    rng = np.random.default_rng(seed)
    models = Models(rng, kind)
    seen = paddocks(rng, kind)
    backbones = [f"b{i % 5}" for i in range(kind.members)]
    library = Library.of_arrays(seen.truth, models.predict(rng, seen), seen.day, backbones)
    estimate = evaluate(library, PLAIN_GREEDY, repeats=1, seed=seed)
    assert estimate.nested is not None
    assert estimate.interval is not None
    assert estimate.unseen is not None
    a, b = models.blend_spread(estimate.weights[:, 0])
    conformal = calibrate(seen.truth, estimate.unseen, seen.day)
    assert conformal is not None
    new = paddocks(rng, kind)
    error = a * rng.normal(size=new.truth.shape) + b * rng.normal(size=(len(kind.sizes), len(TARGETS)))[new.day]
    low, high = conformal.bounds(new.truth + new.hardness[new.day][:, None] * error)
    inside = ((low <= new.truth) & (new.truth <= high)).mean(axis=1)
    by_date = float((np.bincount(new.day, inside) / kind.sizes).mean())
    return Outcome(
        fresh.expected(a, b), fresh.many(a, b), estimate.nested, estimate.fitted, *estimate.interval, by_date
    )


HEADER = (
    "kind", "expected R2", "nested - expected", "fitted - expected", "log error: mean, sd", "width / 3.92",
    "holds expected", "below", "above", "holds many", "conformal",
)  # fmt: skip


def row(name: str, seeds: range) -> tuple[str, ...]:
    """A kind's figures."""
    kind = KINDS[name]
    fresh = Fresh(kind)
    expected, many, nested, fitted, low, high, conformal = np.array([simulate(kind, fresh, s) for s in seeds]).T
    error = np.log1p(-nested) - np.log1p(-expected)
    width = np.log1p(-low) - np.log1p(-high)
    return (
        name,
        f"{expected.mean():.3f}",
        f"{(nested - expected).mean():+.4f} ± {(nested - expected).std(ddof=1) / len(seeds) ** 0.5:.4f}",
        f"{(fitted - expected).mean():+.4f}",
        f"{error.mean():+.3f}, {error.std(ddof=1):.3f}",
        f"{np.median(width) / 3.92:.3f}",
        f"{((low <= expected) & (expected <= high)).mean():.3f}",
        f"{(expected < low).mean():.3f}",
        f"{(expected > high).mean():.3f}",
        f"{((low <= many) & (many <= high)).mean():.3f}",
        f"{conformal.mean():.3f}",
    )


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--kind", default="", help="only the kinds whose name has these words in it")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for name in KINDS:
        if arguments.kind in name:
            print("| " + " | ".join(row(name, seeds)) + " |", flush=True)


if __name__ == "__main__":
    main()
