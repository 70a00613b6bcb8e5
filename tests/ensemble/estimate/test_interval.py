"""The interval of the nested score, against its definition and on data made for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstat, t

from ensemble.estimate.interval import interval, replicates
from ensemble.members.pool import Pool
from ensemble.weighting.auto import procedure
from ensemble.weighting.library import Library
from ensemble.weighting.nested import deal, losses_by_day, nested_predictions
from ensemble.weighting.options import Options
from ensemble.weighting.procedure import whole
from pasture.metric import weighted_r2
from pasture.targets import Array, from_components

MakePool = Callable[..., Pool]


def drawn(make_pool: MakePool, members: int, epochs: int = 0) -> Library:
    """Nine dates of 1 to 9 photographs; every epoch another draw."""
    rng = np.random.default_rng(0)
    day = np.arange(9).repeat(np.arange(1, 10))
    truth = from_components(rng.gamma(2.0, 10.0, (len(day), 3)))
    shape = (members, max(epochs, 1), len(day), 5)
    predictions = truth + rng.normal(0, 1, shape) * rng.uniform(4, 15, (members, 1, 1, 1))
    kept = predictions if epochs else None
    return Library.of(make_pool(truth, day, predictions[:, 0], kept))


@pytest.mark.parametrize("method", ["greedy", "per-target"])
def test_replicates_are_nested_predictions_on_the_other_dates(make_pool: MakePool, method: str) -> None:
    library = drawn(make_pool, members=6, epochs=3)
    made = procedure(method, Options())  # type: ignore[arg-type]
    groupings = deal(library, 2, np.random.default_rng(0))
    found = replicates(library, made, groupings)
    for day in library.days:
        others, _ = library.split(np.array([day]))
        without = [[group[group != day] for group in grouping if set(group) != {day}] for grouping in groupings]
        predicted = nested_predictions(others, {"made": whole(made)}, without)["made"]
        np.testing.assert_allclose(np.delete(found[day], day), losses_by_day(others, predicted))
        assert found[day, day] == 0


@pytest.mark.parametrize("outlier", [1.0, 20.0])
def test_of_one_member_it_is_the_jackknife_of_its_score(make_pool: MakePool, outlier: float) -> None:
    """One date that decides it leaves fewer degrees of freedom."""
    library = drawn(make_pool, members=1)
    library.predictions[0, library.day == 8] += outlier
    made = procedure("uniform", Options())
    groupings = deal(library, 1, np.random.default_rng(0))
    found = interval(library, library.predictions, replicates(library, made, groupings))

    def log_loss(rows: Array) -> float:
        return float(np.log(1 - weighted_r2(library.truth[rows], library.predictions[0, rows])))

    without = np.array([log_loss(library.day != day) for day in range(9)])
    error = np.sqrt(8 / 9 * ((without - without.mean()) ** 2).sum())
    excess = kstat(without, 4) / kstat(without, 2) ** 2  # Fisher's k-statistics
    assert (excess > 0) == (outlier > 1)
    quantile = t.ppf(0.975, 2 / (2 / 8 + max(excess, 0) / 9))
    centre = log_loss(library.day >= 0)
    expected = 1 - np.exp(centre + quantile * error), 1 - np.exp(centre - quantile * error)
    assert found == pytest.approx(expected)


def test_there_is_none_where_one_date_alone_makes_the_truth_vary(make_pool: MakePool) -> None:
    truth = np.zeros((6, 5))
    truth[0] = [1, 2, 3, 4, 6]
    library = Library.of(make_pool(truth, np.arange(6), truth[None] + 1.0))
    groupings = deal(library, 1, np.random.default_rng(0))
    found = replicates(library, procedure("uniform", Options()), groupings)
    assert interval(library, library.predictions, found) is None
