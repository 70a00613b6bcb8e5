"""Forecasts whose result follows from the recorded trials, and the command."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from forage.replay.forecast import Recorded, forecast, recorded_in_table
from forage.replay.table import Table
from pasture.errors import InputError
from pasture.run_folder import RunFolder
from tests.forage.conftest import Shell
from tests.forage.replay.conftest import make_table
from tune.pruning.pruners import rung_epochs

__all__ = ["make_table"]


def trial(score: float = 0.5, seconds: float = 10.0, start: bool = False) -> Recorded:
    status = "PRUNED" if math.isnan(score) else "COMPLETE"
    return Recorded(seconds, score, status, start)  # type: ignore[arg-type]


def test_trials_of_one_length_fill_the_time_of_all_workers() -> None:
    made = forecast([trial()], workers=4, hours=1, trials=None, starts=0)
    assert [moment.ended.mean for moment in made.moments] == [4 * math.floor(n) for n in (22.5, 45, 90, 180, 360)]
    assert made.worker_hours.mean == pytest.approx(4.0)
    assert (made.seconds.mean, made.workers) == (10.0, 4)


def test_a_number_of_trials_ends_the_sweep() -> None:
    made = forecast([trial()], workers=8, hours=None, trials=20, starts=0)
    last = made.moments[-1]
    assert (last.ended.mean, last.hours) == (20, pytest.approx(30 / 3600))
    assert made.worker_hours.mean == pytest.approx(200 / 3600)
    assert forecast([trial()], 8, 1, 20, 0).moments[-1].ended.mean == 20


def test_pruned_trials_have_no_score_and_are_counted() -> None:
    recorded = [trial(math.nan, 1.0) for _ in range(30)] + [trial(0.6, 9.0) for _ in range(10)]
    last = forecast(recorded, workers=2, hours=None, trials=400, starts=0).moments[-1]
    assert last.pruned.mean == pytest.approx(300, rel=0.05)
    assert last.pruned.low < 290 < 310 < last.pruned.high, "the luck of 40 recorded trials"
    assert last.best.mean == pytest.approx(0.6)


def test_the_best_score_rises_toward_the_best_recorded_one() -> None:
    recorded = [trial(number / 100) for number in range(50)]
    made = forecast(recorded, workers=1, hours=None, trials=64, starts=0)
    means = [moment.best.mean for moment in made.moments]
    assert means == sorted(means)
    assert 0.40 < means[1] < 0.46, "the best of 8 uniform draws below .5"
    assert made.best_recorded == 0.49 >= means[-1] > 0.46


def test_start_trials_run_first_and_as_often_as_the_space_has_them() -> None:
    recorded = [trial(0.9, 100.0, start=True), trial(0.1, 10.0)]
    made = forecast(recorded, workers=1, hours=None, trials=12, starts=2)
    assert made.worker_hours.mean == pytest.approx((2 * 100 + 10 * 10) / 3600)
    assert made.moments[-1].best.mean == pytest.approx(0.9)


def test_short_trials_cannot_keep_many_workers_busy() -> None:
    assert forecast([trial(seconds=1.0)], workers=64, hours=0.1, trials=None, starts=0).workers == 20


def test_tabulated_recipes_are_pruned_as_asha_does(make_table: Callable[..., Table]) -> None:
    table = make_table()
    recorded = recorded_in_table(table)
    assert len(recorded) == 80
    assert sum(each.start for each in recorded) == 4
    assert all(each.status == "COMPLETE" for each in recorded if each.start)
    pruned = [each for each in recorded if each.status == "PRUNED"]
    assert 30 < len(pruned) < 70
    trained = table.splits[0].trained[0]
    assert trained is not None
    longest = trained.seconds.max() * 1.5 * max(rung_epochs(len(trained.scores)))
    assert max(each.seconds for each in pruned) < longest < min(e.seconds for e in recorded if e.status == "COMPLETE")


def test_what_cannot_be_forecast_is_refused() -> None:
    with pytest.raises(InputError, match="give --hours, --trials or both"):
        forecast([trial()], 1, None, None, 0)
    with pytest.raises(InputError, match="no trial that the search proposed"):
        forecast([trial(start=True)], 1, 1, None, 1)
    with pytest.raises(InputError, match="too many to simulate; give --trials or fewer hours"):
        forecast([trial()], 10_000, 100, None, 0)


def test_the_command_reads_a_run_and_finds_the_runs_of_a_space(shell: Shell, swept: RunFolder, tmp_path: Path) -> None:
    words = ("--workers", 2, "--trials", 10, "--json")
    said = shell("plan", "--run", swept, *words)
    assert said.status == 0, said.err
    content = json.loads(said.out)
    assert (content["recorded"], content["best_recorded"]) == (4, 0.5)
    shutil.copytree(str(swept), tmp_path / "runs" / "second")
    found = json.loads(shell("plan", "--space", "demo", "--runs", tmp_path / "runs", *words).out)
    assert found["recorded"] == 8
    said = shell("plan", "--run", swept, "--workers", 2, "--hours", 0.1, "--gpus-per-trial", 2)
    assert "GPU hours: 0.40" in said.out
    assert "from 4 recorded trials" in said.out


def test_the_command_without_recorded_trials_says_how_to_record_some(
    shell: Shell, swept: RunFolder, tmp_path: Path
) -> None:
    said = shell("plan", "--hours", 1, "--runs", tmp_path / "runs")
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "no run has recorded trials of the space default; make some with `forage sweep DATA --space" in said.err
    said = shell("plan", "--hours", 1, "--run", swept, "--space", "default")
    assert said.status == 2
    assert "its trials are of another space than --space default; leave --space out" in said.err


def test_the_forecast_in_the_docs_is_what_the_command_prints(
    shell: Shell, golden_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "large-sweep.md").read_text()
    (command,) = re.findall(r"(?m)^forage (plan --run golden/.+)$", page)
    (text,) = re.findall(r"(?ms)^```text\n(.+?)^```", page)
    monkeypatch.chdir(golden_folder.parent)
    said = shell(*command.split())
    assert said.status == 0
    printed = [line.rstrip() for line in (said.err + said.out).splitlines() if line.strip()]
    assert printed == [line for line in text.splitlines() if line]
