"""Sweeps by the command line: sweep, resume and status."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from forage.cli import app
from pasture.dataset import read_train
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger
from tune.records.lock import exclusive_lock

STATUS_KEYS = {"trials", "complete", "pruned", "failed", "running", "waiting", "best_score", "best_trial"}


def outcome(run: RunFolder, stopped_by: Any = None) -> Any:
    from tune.sweep import Outcome

    return Outcome(run, Ledger(run), stopped_by)


def test_status_json(shell: Any, swept: RunFolder) -> None:
    said = shell("status", swept, "--json")
    assert (said.status, said.err) == (0, "")
    content = json.loads(said.out)
    assert content.pop("seconds") == 1.5 * 7
    assert content.pop("bytes") > content.pop("weights_bytes") > 100
    assert content == {
        "trials": 5, "complete": 3, "pruned": 1, "failed": 1, "running": 0, "waiting": 0,
        "best_score": 0.5, "best_trial": "t0001", "at_work": False,
    }  # fmt: skip
    said = shell("status", swept).out
    assert "waiting" not in said
    assert "3 complete, 1 pruned, 1 failed" in said
    assert re.search(r"trials have computed for 0:00:10; \d+\.\d MB on disk, \d+\.\d of them weights", said)


def test_status_tells_a_running_sweep_from_a_dead_one(shell: Any, swept: RunFolder) -> None:
    assert "process" not in shell("status", swept).out, "it is over"
    ledger = Ledger(swept)
    record = ledger.records["t0000"]
    record.status = "RUNNING"
    ledger.write(record)
    assert f"no process runs this sweep; go on with: forage resume {swept}\n" in shell("status", swept).out
    assert "4 of 5 trials, no process runs it; forage resume goes on with it" in shell("watch", swept).out
    with exclusive_lock(swept):
        assert "a process runs this sweep now" in shell("status", swept).out
        assert json.loads(shell("status", swept, "--json").out)["at_work"] is True


def test_an_imported_run_says_what_it_is(shell: Any, paddocks: Path, tmp_path: Path) -> None:
    data = read_train(paddocks)
    for name, spread in (("good", 0.1), ("poor", 0.3)):
        noise = np.random.default_rng(0).normal(1, spread, data.targets.shape)
        predictions = pd.DataFrame(data.targets * noise, index=data.ids, columns=list(TARGETS))
        predictions.to_csv(tmp_path / f"{name}.csv", index_label="image_id")
    files = (tmp_path / "poor.csv", tmp_path / "good.csv")
    said = shell("import", *files, "--truth", paddocks, "--runs", tmp_path, "--name", "theirs")
    assert said.status == 0
    run = RunFolder(tmp_path / "theirs")
    best = run.read_oof("good").metadata["score"]
    said = shell("status", run)
    assert (said.status, said.out) == (0, f"{run}: 2 imported member(s); best {best:.4f} by good\n")
    said = shell("status", run, "--json")
    assert json.loads(said.out) == {"imported": 2, "best_score": best, "best_trial": "good"}
    for command in ("resume", "gc"):
        said = shell(command, run)
        assert said.status == 2
        assert f"{run}: holds imported members, not a sweep" in said.err
        assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["sweep", "resume"])
def test_sweep_and_resume_json(
    command: str, shell: Any, swept: RunFolder, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep

    monkeypatch.setattr(tune.sweep, "launch", lambda *_, **__: outcome(swept))
    words = ("sweep", paddocks, "--name", "x") if command == "sweep" else ("resume", swept)
    said = shell(*words, "--json")
    content = json.loads(said.out)
    assert said.status == 0
    assert set(content) == STATUS_KEYS | {"run"}
    assert content["run"] == str(swept)
    assert f"report: {swept}/report.html" in said.err
    assert Path(f"{swept}/report.html").stat().st_size > 10_000


def test_a_report_that_fails_does_not_fail_the_sweep(shell: Any, swept: RunFolder) -> None:
    (Path(str(swept)) / "truth.parquet").write_bytes(b"damaged")
    said = shell("resume", swept, "--json")
    assert said.status == 0
    assert json.loads(said.out)["complete"] == 3
    assert "warning: no report (InputError: " in said.err


def test_an_interrupted_sweep_says_how_to_go_on(
    shell: Any, swept: RunFolder, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep

    monkeypatch.setattr(tune.sweep, "launch", lambda *_, **__: outcome(swept, "signal"))
    said = shell("sweep", paddocks)
    assert said.status == 130
    assert f"forage resume {swept}" in said.err


@pytest.mark.parametrize(
    ("stopped_by", "words", "message"),
    [
        ("hours", ("--hours", 1.5), "stopped after 1.5 h (--hours); resume with: forage resume {run}"),
        (
            "score",
            ("--until-score", 0.4),
            "stopped at a score of 0.4 (--until-score); resume with: forage resume {run} --until",
        ),
    ],
)
def test_a_sweep_that_has_used_its_budget_says_how_to_go_on(
    stopped_by: str, words: Any, message: str, shell: Any, swept: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep
    from tune.records.plan import Plan

    def resume(run: RunFolder, changes: Any, **_: Any) -> Any:
        Plan.read(run).changed(changes).write(run)
        return outcome(run, stopped_by)

    monkeypatch.setattr(tune.sweep, "resume", resume)
    said = shell("resume", swept, *words)
    assert said.status == 0
    assert message.format(run=swept) in said.err


def test_hours_that_were_too_few_for_any_trial_are_no_failure(
    shell: Any, swept: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep

    ledger = Ledger(swept)
    for record in ledger.records.values():
        record.status = "RUNNING"
        ledger.write(record)
    swept.write_sweep(swept.read_sweep() | {"hours": 1.0})
    monkeypatch.setattr(tune.sweep, "resume", lambda *_, **__: outcome(swept, "hours"))
    assert shell("resume", swept).status == 0


def test_a_first_stage_that_was_stopped_is_no_failure(
    shell: Any, swept: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep

    ledger = Ledger(swept)
    for record in ledger.with_status("COMPLETE"):
        record.status = "WAITING"
        ledger.write(record)
    swept.write_sweep(swept.read_sweep() | {"hours": 1.0, "promote": 3})
    monkeypatch.setattr(tune.sweep, "resume", lambda *_, **__: outcome(swept, "hours"))
    said = shell("resume", swept)
    assert said.status == 0
    assert "1 failed, 0 running or unfinished, 3 waiting after the first stage; no complete trial yet" in said.out
    assert json.loads(shell("status", swept, "--json").out)["waiting"] == 3


def test_a_sweep_without_a_complete_trial_fails_with_the_first_error(
    shell: Any, swept: RunFolder, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep

    ledger = Ledger(swept)
    for record in ledger.with_status("COMPLETE"):
        record.status, record.error = "FAILED", "out of patience"
        ledger.write(record)
    monkeypatch.setattr(tune.sweep, "launch", lambda *_, **__: outcome(swept))
    said = shell("sweep", paddocks)
    assert said.status == 1
    assert "the first error: out of patience" in said.err
    assert f"see: forage status {swept} --trial t0000" in said.err


def test_status_of_a_trial_shows_its_recipe_curve_and_error(shell: Any, swept: RunFolder) -> None:
    said = shell("status", swept, "--trial", "t0001")
    assert said.status == 0
    lines = said.out.splitlines()
    assert lines[0] == "t0001: complete, score 0.5000, 2 epoch(s), origin: search"
    assert any(line.replace("│", " ").split() == ["2", "0.5000", "0.5000", "-", "1.5"] for line in lines)
    recipe = Recipe.parse(Ledger(swept).records["t0001"].recipe)
    assert said.out.endswith(recipe.to_yaml())
    swept.trials.write("t0004.log", b"Traceback (most recent call last):\n  there [0]\n")
    said = shell("status", swept, "--trial", "t0004")
    assert "Traceback (most recent call last):\n  there [0]\n" in said.out
    assert "error: head.hidden: no <script>alert(1)</script> & no layers" in said.out
    content = json.loads(shell("status", swept, "--trial", "t0001", "--json").out)
    assert (content["trial"], content["score"], len(content["curve"])) == ("t0001", 0.5, 2)


@pytest.mark.parametrize(
    ("words", "limits"),
    [
        ((), {"pruner": "asha", "grace": None, "reduction": 3, "objective": "score", "confirm": 0, "start": True}),
        (("--pruner", "none"), {"pruner": "none"}),
        (("--pruner", "paired", "--grace", 5, "--reduction", 2), {"pruner": "paired", "grace": 5, "reduction": 2}),
        (("--objective", "blend", "--confirm", 3, "--no-start"), {"objective": "blend", "confirm": 3, "start": False}),
        (("--warm-start", "{run}"), {"warm_start": "{run}"}),
    ],
)
def test_sweep_passes_its_options_on(
    words: Any, limits: dict[str, Any], shell: Any, swept: RunFolder, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tune.sweep

    given: list[Any] = []

    def launch(run: Any, data: Any, space: Any, limits: Any, **_: Any) -> Any:
        given.append(limits)
        return outcome(swept)

    monkeypatch.setattr(tune.sweep, "launch", launch)
    assert shell("sweep", paddocks, *(str(word).format(run=swept) for word in words)).status == 0
    for name, value in limits.items():
        assert getattr(given[0], name) == (value.format(run=swept) if isinstance(value, str) else value)


@pytest.mark.heavy
def test_resume_can_retry_failed_trials(shell: Any, swept: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import tune.sweep

    given: list[Any] = []
    monkeypatch.setattr(tune.sweep, "resume", lambda *_, **words: given.append(words) or outcome(swept))
    assert shell("resume", swept, "--retry-failed").status == 0
    assert shell("resume", swept).status == 0
    assert [words["retry_failed"] for words in given] == [True, False]


def test_options_of_a_sweep_come_in_groups() -> None:
    result = CliRunner().invoke(app, ["sweep", "--help"], env={"COLUMNS": "160", "TERM": "dumb"})
    titles = re.findall(r"(?m)^╭─ (.+?) ─", result.stdout)
    assert titles == ["Arguments", "Options", "Search", "Pruning", "Budget", "Ray and resources"]
    assert result.stdout.index("─ Pruning ") < result.stdout.index("--grace") < result.stdout.index("─ Budget ")
