"""benchmarks/replay.py on a small table of formulas."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import ray_bohb, replay
from benchmarks.ray_hyperband import RandomSearcher, RayHyperBand
from benchmarks.ray_search import RaySearch
from forage.replay.blend import outer_loss, pooled_r2
from forage.replay.simulate import simulate
from forage.replay.table import Table
from tests.forage.replay.conftest import EPOCHS, make_table

pytestmark = pytest.mark.heavy

__all__ = ["make_table"]
MakeTable = Callable[..., Table]


def test_every_strategy_has_a_score_at_every_budget(make_table: MakeTable) -> None:
    table = make_table(recipes=24)
    scores = replay.search_scores(table, 2, (4, 16), "uniform")
    assert set(scores) > {
        "one recipe",
        "start portfolio, plain mean",
        "random",
        replay.OURS,
        "Ray OptunaSearch + ASHA",
        "Ray Hyperband",
    }
    # BOHB begins with its largest bracket: of the first trials none is trained to its end.
    assert all(np.isfinite(values).all() for name, values in scores.items() if name != "Ray BOHB")
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
    states = [trial.state.name for trial in strategy.study.trials]
    assert states.count("COMPLETE") == 20
    assert {len(t.record.curve) for t in simulated.trials if t.record.status == "COMPLETE"} == {EPOCHS}


def test_trials_of_hyperband_pause_and_continue(make_table: MakeTable) -> None:
    """Brackets of 9 epochs start with 3, 5 and 9 trials; a trial that continues starts no epoch again."""
    table = make_table(recipes=24)
    strategy = RayHyperBand(table, table.splits[0], 24, RandomSearcher(table.space, 0))
    simulated = simulate(strategy, table.splits[0])
    lengths = [(trial.record.status, len(trial.record.curve)) for trial in simulated.trials]
    assert set(lengths) == {("COMPLETE", EPOCHS), ("PRUNED", 3), ("PRUNED", 1)}
    assert len(lengths) == 24
    assert [report["epoch"] for report in simulated.trials[-1].record.curve] == list(
        range(1, len(simulated.trials[-1].record.curve) + 1)
    )
    assert simulated.makespan == pytest.approx(simulated.seconds)
    paused = [t for t in simulated.trials if t.record.status == "PRUNED"]
    ends = [t.time for t in simulated.trials]
    assert len(set(ends)) < len(ends), "the losers of a rung end together, when the last one reports"
    assert all(t.computed == pytest.approx(t.time) for t in paused)


def test_bohb_learns_at_the_rungs_which_recipes_ran(make_table: MakeTable) -> None:
    pytest.importorskip("hpbandster", reason="BOHB's packages are the extra `bohb`")
    table = make_table(recipes=60)
    strategy = replay.strategies(60, "asha")["Ray BOHB"](table, table.splits[0], 0)
    simulated = simulate(strategy, table.splits[0], replay.SEARCH_WORKERS["Ray BOHB"])
    assert isinstance(strategy, RayHyperBand)
    assert isinstance(strategy.searcher, ray_bohb.BohbSearcher)
    bohb = strategy.searcher.bohb.bohber
    assert {1.0, 3.0} <= set(bohb.configs)
    assert bohb.kde_models, "at least one model was fitted"
    assert {t.record.status for t in simulated.trials} == {"COMPLETE", "PRUNED"}
    sigma = np.array(bohb.configs[1.0])[:, list(bohb.configspace).index("loss.lds.sigma")]
    assert 0 < np.isnan(sigma).sum() < len(sigma), "a conditional field is missing where it was not drawn"


def test_bohb_without_its_packages_is_left_out_by_name(
    make_table: MakeTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(replay, "missing_packages", lambda: ["ConfigSpace", "hpbandster"])
    monkeypatch.setattr(replay, "search_scores", lambda *_: {replay.OURS: np.zeros((1, 1))})
    make_table(recipes=2).write(tmp_path / "table.parquet")
    monkeypatch.setattr(sys, "argv", ["replay", str(tmp_path / "table.parquet"), "--budgets", "4", "--workers"])
    replay.main()
    assert "Ray BOHB is left out: ConfigSpace and hpbandster not installed" in capsys.readouterr().err
    assert "Ray BOHB" not in replay.strategies(4, "asha")


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
