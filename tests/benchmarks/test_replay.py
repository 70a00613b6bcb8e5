"""benchmarks/replay.py on a small table of formulas."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import replay
from benchmarks.ray_search import RaySearch
from forage.replay.blend import outer_loss, pooled_r2
from forage.replay.simulate import simulate
from forage.replay.table import Table
from tests.forage.replay.conftest import EPOCHS, make_table

__all__ = ["make_table"]
MakeTable = Callable[..., Table]


def test_every_strategy_has_a_score_at_every_budget(make_table: MakeTable) -> None:
    table = make_table(recipes=24)
    scores = replay.search_scores(table, 2, (4, 16), "uniform")
    assert set(scores) > {"one recipe", "start portfolio, plain mean", "random", replay.OURS, "Ray OptunaSearch + ASHA"}
    assert all(np.isfinite(values).all() for values in scores.values())
    assert scores["random"].shape == (2, 2)
    start = pooled_r2(table.splits, [outer_loss(table, split, [0, 1], "uniform") for split in table.splits])
    assert scores["start portfolio, plain mean"].tolist() == [[start, start]]
    assert scores["random"][0].tolist() != scores["random"][1].tolist()
    text = replay.score_table(scores, (4, 16))
    assert f"minus {replay.OURS}, at 16" in text.splitlines()[0]
    assert len(text.splitlines()) == 2 + len(scores)


def test_ray_reports_stopped_trials_to_optuna_as_complete(make_table: MakeTable) -> None:
    """The reason for a searcher of our own, seen in Ray's."""
    table = make_table(recipes=24)
    strategy = RaySearch(table, table.splits[0], 20, 0)
    simulated = simulate(strategy, table.splits[0])
    pruned = [trial for trial in simulated.trials if trial.record.status == "PRUNED"]
    assert pruned
    assert all(len(trial.record.curve) in (1, 4) for trial in pruned)
    states = [trial.state.name for trial in strategy.searcher._ot_study.trials]
    assert states.count("COMPLETE") == 20
    assert {len(t.record.curve) for t in simulated.trials if t.record.status == "COMPLETE"} == {EPOCHS}


def test_one_worker_is_busy_and_a_driver_has_a_limit(make_table: MakeTable) -> None:
    busy = replay.efficiency(make_table(recipes=24), 1)
    assert 0.5 < busy["efficiency"] <= 1.0
    assert busy["most_workers"] == pytest.approx(1e3 * busy["trial_seconds"] / busy["driver_ms_a_trial"])
    assert replay.efficiency_table({1: busy}).count("\n") == 2


def test_the_script_prints_tables_or_json(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table(recipes=12).write(tmp_path / "table.parquet")
    words = ["replay", str(tmp_path / "table.parquet"), "--seeds", "1", "--budgets", "4", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [*words, "--method", "uniform"])
    replay.main()
    assert "| random + ASHA |" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*words, "--json"])
    replay.main()
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert set(content) == {"scores", "efficiency"}
