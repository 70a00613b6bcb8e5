"""Comparisons paired by date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from forage.results.compare import Comparison, Result, compare, holm, remark
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.run_folder import RunFolder

DATES = np.array([f"2015-0{d}-01" for d in range(1, 9) for _ in range(5)])
TRUTH = np.random.default_rng(0).uniform(0, 50, (40, 5))
IDS = [f"i{n}" for n in range(40)]


def result(name: str, noise: float, rows: slice = slice(None), seed: int = 1) -> Result:
    predictions = TRUTH + np.random.default_rng(seed).normal(0, noise, TRUTH.shape)
    return Result(name, "", IDS[rows], DATES[rows], TRUTH[rows], predictions[None, rows])


def pair(first: Result, second: Result) -> Comparison:
    (found,) = compare([first, second])
    return found


def test_a_clear_lead_is_more_than_chance() -> None:
    found = pair(result("a", 1.0), result("b", 10.0))
    assert found.difference == pytest.approx(found.first_score - found.second_score)
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.sentence.startswith("a is ahead of b by 0.")
    assert found.sentence.endswith("over 8 dates), more than chance explains.")
    turned = pair(result("b", 10.0), result("a", 1.0))
    assert turned.sentence == found.sentence


def test_a_small_difference_is_not() -> None:
    found = pair(result("a", 8.0, seed=1), result("b", 8.0, seed=2))
    assert "which chance can explain" in found.sentence


def test_the_interval_is_students_over_dates() -> None:
    first, second = result("a", 2.0), result("b", 5.0, seed=3)
    found = pair(first, second)
    whole = ((TRUTH - (TRUTH * [0.1, 0.1, 0.1, 0.2, 0.5]).sum() / 40) ** 2 @ [0.1, 0.1, 0.1, 0.2, 0.5]).sum()
    loss = [
        ((r.predictions[0] - TRUTH) ** 2 @ [0.1, 0.1, 0.1, 0.2, 0.5]).reshape(8, 5).sum(axis=1) for r in (first, second)
    ]
    gain = (loss[1] - loss[0]) / whole
    error = gain.std(ddof=1) * 8**0.5
    assert found.error == pytest.approx(error)
    assert found.interval == pytest.approx((gain.sum() - t.ppf(0.975, 7) * error, gain.sum() + t.ppf(0.975, 7) * error))


def test_only_images_of_both_count_and_few_dates_give_no_interval() -> None:
    found = pair(result("a", 1.0), result("b", 2.0, slice(0, 20)))
    assert (found.images, found.dates, found.interval) == (20, 4, None)
    assert "too few dates" in found.sentence
    with pytest.raises(InputError, match="no image in common"):
        pair(result("a", 1.0, slice(0, 20)), result("b", 2.0, slice(20, 40)))


def test_each_is_compared_with_the_first_or_with_the_best() -> None:
    results = [result("a", 9.0, seed=1), result("b", 2.0, seed=2), result("c", 9.0, slice(0, 30), seed=3)]
    found = compare(results)
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("a", "c")]
    assert {(c.images, c.dates) for c in found} == {(30, 6)}, "the images that all have"
    assert found[0].first_score == pytest.approx(weighted_r2(TRUTH[:30], results[0].predictions[0, :30]))
    best = compare(results, "best")
    assert [(c.first, c.second) for c in best] == [("b", "a"), ("b", "c")]
    assert best[0].difference == pytest.approx(-found[0].difference)
    assert remark(found, "first").startswith('2 comparisons: "more than chance explains" allows for their number')
    assert remark(best, "best").endswith("so its leads are a little too large.")
    assert remark(found[:1], "first") == ""


def test_verdicts_allow_for_the_number_of_comparisons() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    first = result("a", 6.0, seed=1)
    other = next(r for seed in range(2, 500) if 0.02 < (pair(first, r := result("b", 6.5, seed=seed)).p or 1) < 0.05)
    alone = pair(first, other)
    assert (alone.p_holm, alone.sentence.endswith("more than chance explains.")) == (alone.p, True)
    among = compare([first, other, *(result(f"c{n}", 6.0, seed=1000 + n) for n in range(4))])[0]
    assert among.interval == alone.interval
    assert among.sentence.endswith("which chance can explain among so many comparisons.")


def test_the_p_value_is_students_and_that_of_equal_results_is_1() -> None:
    found = pair(result("a", 2.0), result("b", 5.0, seed=3))
    assert found.error is not None
    assert found.p == pytest.approx(2 * t.sf(abs(found.difference) / found.error, 7))
    same = pair(result("a", 2.0), result("b", 2.0))
    assert (same.difference, same.p) == (0, 1)
    assert same.sentence == f"a and b have the same score, {same.first_score:.4f}."


def test_forage_compare(shell: Any, swept: RunFolder, blend: Any, tmp_path: Path) -> None:
    said = shell("compare", f"{swept}:t0000", f"{swept}:t0002", "--json")
    (content,) = json.loads(said.out)["comparisons"]
    table = swept.read_oof("t0000")
    truth = swept.read_truth().loc[table.image_ids].iloc[:, 1:].to_numpy()
    assert content["first_score"] == pytest.approx(weighted_r2(truth, table.mean(tuple(range(8)))))
    said = shell("compare", swept, blend.folder)
    assert "its best trial, t0001, was chosen by score" in said.err
    assert f"{blend.estimate['nested']:.4f}  {blend.folder}" in said.out
    for location, words in (
        (tmp_path, "neither a run"), (f"{swept}:t0003", "has no predictions of t0003"), (f"{swept}:x", "neither a run")
    ):  # fmt: skip
        said = shell("compare", swept, location)
        assert (said.status, words in said.err) == (2, True)
    said = shell("compare", swept, blend.folder, f"{swept}:t0002", "--against", "best")
    assert said.status == 0, said.err
    assert said.out.count(" is ahead of ") == 2
    assert said.out.splitlines()[-1].startswith("2 comparisons: ")
    assert "nothing to compare it with; give two results or more" in shell("compare", swept).err
    assert "is given twice" in shell("compare", swept, swept).err
