from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    batched_heads,
    fine_tuning,
    frozen_trials,
    growth,
    image_cache,
    member_by_member,
    prediction,
    selection,
)
from benchmarks.table import Measure, Row

pytestmark = pytest.mark.heavy

Rows = Callable[[Measure], list[Row]]


def test_frozen_trials(rows: Rows) -> None:
    found = rows(frozen_trials.measure)
    assert [row.at_least for row in found] == [None, 200]
    assert found[0].ratio < found[1].ratio  # a bank that 64 share costs each less


def test_a_plain_loop_that_trains_otherwise_is_noticed(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.plain_loop.rate_factor", lambda *_: 0.0)
    with pytest.raises(AssertionError, match="the plain loop predicts something else"):
        rows(frozen_trials.measure)


def test_fine_tuning(rows: Rows) -> None:
    assert [row.at_least for row in rows(fine_tuning.measure)] == [0.9]


def test_batched_heads(rows: Rows) -> None:
    assert [row.goal for row in rows(batched_heads.measure)] == [""]


def test_selection(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "AUTOGLUON", Path("no-such-file"))
    assert [row.what.split()[1] for row in rows(selection.measure)] == ["5", "20"]


def test_other_picks_are_noticed(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "AUTOGLUON", Path("no-such-file"))
    monkeypatch.setattr(selection, "WEIGHTS", np.array([1.0, 0, 0, 0, 0]))
    with pytest.raises(AssertionError, match="our picks are not those of the numpy loop"):
        rows(selection.measure)


def test_prediction(rows: Rows) -> None:
    assert [row.at_least for row in rows(prediction.measure)] == [10]


def test_other_predictions_are_noticed(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = member_by_member.predict
    monkeypatch.setattr(member_by_member, "predict", lambda *words: 1.1 * honest(*words))
    with pytest.raises(AssertionError, match="predict different grams"):
        rows(prediction.measure)


def test_image_cache(rows: Rows) -> None:
    assert len(rows(image_cache.measure)) == 2


def test_growth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    series = [*growth.members((3, 6)), *growth.pictures((4, 8))]
    assert [s.of for s in series] == ["members", "members", "pictures", "pictures"]
    assert all(s.row().ratio > 0 for s in series)
    growth.plot(series, tmp_path / "growth.svg")
    assert "<svg" in (tmp_path / "growth.svg").read_text()


@pytest.mark.parametrize(("unit", "ratio"), [("s", 2.0), ("MB", 20.0)])
def test_growth_is_of_the_cost_of_one(unit: str, ratio: float) -> None:
    row = growth.Series("trials", "trials", (10, 100), (1.0, 20.0), unit).row()
    assert row.ratio == pytest.approx(ratio)
    assert (row.forage, row.against) == (f"20 {unit} for 100", f"1 {unit} for 10")
