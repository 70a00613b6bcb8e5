"""The table against figures computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.weighting.options import DEFAULT_METHOD
from forage.outer_cv.compare import BASELINE, REFERENCE, Table, compare
from forage.outer_cv.run_sweeps import OuterRun
from forage.outer_cv.score_blends import SINGLE, START, ScoredSweep, Selection
from pasture.dataset import Dataset
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS, WEIGHTS, Array, from_components

GROUPS = [
    (("2015-01-01", "2015-01-04"), ("2015-01-02", "2015-01-03")),
    (("2015-01-01", "2015-01-02"), ("2015-01-03", "2015-01-04")),
]


@pytest.fixture
def dataset() -> Dataset:
    """12 images on four dates."""
    generator = np.random.default_rng(0)
    components = generator.gamma(2, 20, (12, 3))
    images = pd.DataFrame(from_components(components), columns=list(TARGETS))
    images.insert(0, "date", pd.Timestamp("2015-01-01") + pd.to_timedelta(np.arange(12) % 4, unit="D"))
    images.index = pd.Index([f"ID{i:04d}" for i in range(12)], name="image_id")
    return Dataset(Path("nowhere"), images)


def losses(dataset: Dataset, predictions: Array, dates: tuple[str, ...]) -> dict[str, float]:
    """Of predictions on some dates."""
    by_image = (predictions - dataset.targets) ** 2 @ WEIGHTS
    return {date: float(by_image[dataset.dates == date].sum()) for date in dates}


def scored(dataset: Dataset, predictions: dict[tuple[str, str], list[Array]], nested: float = 0.5) -> list[ScoredSweep]:
    """One sweep for each seed and group; `predictions[sweep, selection][seed]` are of all images."""
    result = []
    for seed, groups in enumerate(GROUPS):
        for outer in groups:
            for sweep in dict.fromkeys(name for name, _ in predictions):
                selections = {
                    selection: Selection(losses(dataset, of_seeds[seed], outer), nested, 10.0)
                    for (name, selection), of_seeds in predictions.items()
                    if name == sweep
                }
                outer_run = OuterRun(RunFolder("nowhere"), sweep, seed, outer, {"t0000": 10.0}, frozenset())
                result.append(ScoredSweep(outer_run, selections, (0.4, 0.9) if sweep == "search" else None))
    return result


@pytest.fixture
def guesses(dataset: Dataset) -> dict[str, list[Array]]:
    """Two seeds of three strategies, from good to poor."""
    generator = np.random.default_rng(1)
    noise = {"good": 5.0, "fair": 10.0, "poor": 25.0}
    return {name: [dataset.targets + generator.normal(0, s, (12, 5)) for _ in range(2)] for name, s in noise.items()}


@pytest.fixture
def table(dataset: Dataset, guesses: dict[str, list[Array]]) -> Table:
    return compare(
        scored(
            dataset,
            {
                ("search", DEFAULT_METHOD): guesses["fair"],
                ("search", START): guesses["good"],
                ("search", SINGLE): guesses["poor"],
                ("random", DEFAULT_METHOD): guesses["poor"],
                ("random", "ridge"): guesses["good"],
                ("one-recipe", SINGLE): guesses["poor"],
                ("one-recipe", DEFAULT_METHOD): guesses["poor"],
            },
        ),
        dataset,
    )


def test_the_reference_is_first_and_the_others_follow_by_score(table: Table) -> None:
    names = [row.strategy for row in table.rows]
    assert names[0] == REFERENCE == f"search: {DEFAULT_METHOD}"
    assert [row.outer for row in table.rows[1:]] == sorted((row.outer for row in table.rows[1:]), reverse=True)
    assert set(names) == {REFERENCE, START, "search: best single", f"random: {DEFAULT_METHOD}", "one-recipe", BASELINE}


def test_r2_is_pooled_over_all_dates_and_averaged_over_seeds(
    table: Table, dataset: Dataset, guesses: dict[str, list[Array]]
) -> None:
    rows = {row.strategy: row for row in table.rows}
    scores = [weighted_r2(dataset.targets, predictions) for predictions in guesses["good"]]
    assert rows[START].outer == pytest.approx(np.mean(scores))
    assert rows[START].seeds == pytest.approx(np.std(scores, ddof=1))
    assert rows[START].difference == pytest.approx(rows[START].outer - table.rows[0].outer)


def test_errors_are_those_of_the_jackknife_over_dates(
    table: Table, dataset: Dataset, guesses: dict[str, list[Array]]
) -> None:
    without: dict[str, list[float]] = {"good": [], "fair": []}
    for date in sorted(set(dataset.dates)):
        kept = dataset.dates != date
        for name, values in without.items():
            values.append(float(np.mean([weighted_r2(dataset.targets[kept], p[kept]) for p in guesses[name]])))
    good, fair = np.array(without["good"]), np.array(without["fair"])
    rows = {row.strategy: row for row in table.rows}
    assert rows[START].error == pytest.approx(np.sqrt(3 / 4 * ((good - good.mean()) ** 2).sum()))
    difference = good - fair
    expected = np.sqrt(3 / 4 * ((difference - difference.mean()) ** 2).sum())
    assert rows[START].difference_error == pytest.approx(expected)
    assert rows[REFERENCE].difference_error == 0


def test_the_nested_score_stands_beside_the_outer_one(table: Table) -> None:
    row = table.rows[0]
    assert row.nested == 0.5
    assert row.optimism == pytest.approx(0.5 - row.outer)
    assert table.interval == (0.4, 0.9)
    assert table.agrees == (0.4 <= row.outer <= 0.9)
    assert (table.dates, table.images, table.splits, table.seeds) == (4, 12, 2, 2)


def test_target_means_are_those_of_the_dates_that_a_sweep_has_seen(table: Table, dataset: Dataset) -> None:
    scores = []
    for groups in GROUPS:
        predictions = np.empty_like(dataset.targets)
        for outer in groups:
            held = np.isin(dataset.dates, outer)
            predictions[held] = dataset.targets[~held].mean(axis=0)
        scores.append(weighted_r2(dataset.targets, predictions))
    baseline = next(row for row in table.rows if row.strategy == BASELINE)
    assert baseline.outer == pytest.approx(np.mean(scores))
    assert baseline.nested is None


def test_a_strategy_that_some_sweep_lacks_is_left_out(dataset: Dataset, guesses: dict[str, list[Array]]) -> None:
    sweeps = scored(dataset, {("search", DEFAULT_METHOD): guesses["fair"], ("search", START): guesses["good"]})
    del sweeps[1].selections[START]
    assert [row.strategy for row in compare(sweeps, dataset).rows] == [REFERENCE, BASELINE]
