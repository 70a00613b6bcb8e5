"""Parts of a recipe on dates that no model has seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import benchmarks.parts
from benchmarks.parts import compared, main
from pasture.metric import weighted_r2
from search_spaces.catalogue import load_recipe
from trainables.recipe.recipe import Recipe

pytestmark = pytest.mark.heavy


def test_errors_are_those_of_the_jackknife_over_dates() -> None:
    truth = np.random.default_rng(0).gamma(2.0, 10.0, (6, 5))
    dates = np.array(["a", "b", "c", "a", "b", "c"])
    first, other = truth + 1.0, truth * 0.9
    scores = [[weighted_r2(truth[dates != d], p[dates != d]) for d in "abc"] for p in (first, other)]
    score, error, difference, paired = compared(truth, dates, first, other)
    assert score == weighted_r2(truth, other)
    assert difference == pytest.approx(score - weighted_r2(truth, first))
    assert error == pytest.approx(np.std(scores[1], ddof=1) * 2 / np.sqrt(3))  # (n - 1) / sqrt(n) standard deviations
    assert paired == pytest.approx(np.std(np.subtract(scores[1], scores[0]), ddof=1) * 2 / np.sqrt(3))


SHIPPED = sorted(Path(benchmarks.parts.__file__).with_name("part_recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_the_reference_with_one_part_changed(path: Path) -> None:
    reference, part = load_recipe("frozen_mlp").flat(), load_recipe(str(path)).flat()
    changed = {field for field, value in part.items() if value != reference[field]}
    assert 1 <= len(changed) <= 3  # with a z-score the scale of the loss, with a linear head its dropout and rate


def test_every_recipe_and_pseudo_labels_have_a_row_and_nothing_is_trained_twice(
    paddocks: Path, frozen_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"schedule.epochs": 1, "validation": {"folds": 2, "splitter": "group"}}
    for name, more in (("plain", {}), ("gaussian", {"loss.kind": "gaussian_nll"})):
        (tmp_path / f"{name}.yaml").write_text(frozen_recipe.with_overrides(changes | more).to_yaml())
    words = [str(paddocks), str(tmp_path / "plain.yaml"), str(tmp_path / "gaussian.yaml")]
    words += ["--splits", "2", "--pseudo", "1", "--out", str(tmp_path / "out")]
    main(words)
    table = capsys.readouterr().out
    rows = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    second = ["gaussian", "pseudo-labels"]
    assert rows == ["plain", *second, *(f"mean of plain and {name}" for name in second)]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    assert len(kept) == 6
    main(words)
    assert capsys.readouterr().out == table
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
