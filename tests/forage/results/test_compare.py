"""Comparisons paired by date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from forage.results.compare import Result, compare
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder

DATES = np.array([f"2015-0{d}-01" for d in range(1, 9) for _ in range(5)])
TRUTH = np.random.default_rng(0).uniform(0, 50, (40, 5))
IDS = [f"i{n}" for n in range(40)]


def result(name: str, noise: float, rows: slice = slice(None), seed: int = 1) -> Result:
    predictions = TRUTH + np.random.default_rng(seed).normal(0, noise, TRUTH.shape)
    return Result(name, "", IDS[rows], DATES[rows], TRUTH[rows], predictions[None, rows])


def test_a_clear_lead_is_more_than_chance() -> None:
    found = compare(result("a", 1.0), result("b", 10.0))
    assert found.difference == pytest.approx(found.first_score - found.second_score)
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.sentence.startswith("a is ahead of b by 0.")
    assert found.sentence.endswith("over 8 dates), more than chance explains.")
    turned = compare(result("b", 10.0), result("a", 1.0))
    assert turned.sentence == found.sentence


def test_a_small_difference_is_not() -> None:
    found = compare(result("a", 8.0, seed=1), result("b", 8.0, seed=2))
    assert "which chance can explain" in found.sentence


def test_the_interval_is_students_over_dates() -> None:
    first, second = result("a", 2.0), result("b", 5.0, seed=3)
    found = compare(first, second)
    whole = ((TRUTH - (TRUTH * [0.1, 0.1, 0.1, 0.2, 0.5]).sum() / 40) ** 2 @ [0.1, 0.1, 0.1, 0.2, 0.5]).sum()
    loss = [
        ((r.predictions[0] - TRUTH) ** 2 @ [0.1, 0.1, 0.1, 0.2, 0.5]).reshape(8, 5).sum(axis=1) for r in (first, second)
    ]
    gain = (loss[1] - loss[0]) / whole
    error = gain.std(ddof=1) * 8**0.5
    assert found.error == pytest.approx(error)
    assert found.interval == pytest.approx((gain.sum() - t.ppf(0.975, 7) * error, gain.sum() + t.ppf(0.975, 7) * error))


def test_only_images_of_both_count_and_few_dates_give_no_interval() -> None:
    found = compare(result("a", 1.0), result("b", 2.0, slice(0, 20)))
    assert (found.images, found.dates, found.interval) == (20, 4, None)
    assert "too few dates" in found.sentence
    with pytest.raises(InputError, match="no image in common"):
        compare(result("a", 1.0, slice(0, 20)), result("b", 2.0, slice(20, 40)))


def test_forage_compare(shell: Any, swept: RunFolder, blend: Any, tmp_path: Path) -> None:
    said = shell("compare", f"{swept}:t0000", f"{swept}:t0002", "--json")
    content = json.loads(said.out)
    table = swept.read_oof("t0000")
    truth = swept.read_truth().loc[table.image_ids].iloc[:, 1:].to_numpy()
    assert content["first_score"] == pytest.approx(weighted_r2(truth, table.mean(tuple(range(8)))))
    said = shell("compare", swept, blend.folder)
    assert "its best trial, t0001, was chosen by this score" in said.err
    assert f"{blend.estimate['nested']:.4f}  {blend.folder}" in said.out
    for location, words in (
        (tmp_path, "neither a run"), (f"{swept}:t0003", "has no predictions of t0003"), (f"{swept}:x", "neither a run")
    ):  # fmt: skip
        said = shell("compare", swept, location)
        assert (said.status, words in said.err) == (2, True)
