"""The command line: exit statuses, one line for an error, JSON alone on standard output."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from ensemble.blend.blend import Blend
from forage.cli import app
from forage.terminal.messages import show_table
from forage.terminal.words import parse_settings
from pasture.dataset import read_train
from pasture.errors import InputError, JobError
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS
from trainables.recipe.recipe import Recipe
from tune.records.ledger import Ledger
from tune.records.lock import exclusive_lock

STATUS_KEYS = {"trials", "complete", "pruned", "failed", "running", "waiting", "best_score", "best_trial"}
ENSEMBLE_KEYS = {
    "fitted", "nested", "interval", "best_single", "uniform", "uniform_nested", "optimum", "gap", "baseline",
    "method", "options", "auto", "tta", "members", "start", "targets", "prefixes", "steps",
}  # fmt: skip
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]


def outcome(run: RunFolder, stopped_by: Any = None) -> Any:
    from tune.sweep import Outcome

    return Outcome(run, Ledger(run), stopped_by)


def test_these_commands_are_there() -> None:
    assert set(COMMANDS) >= {"make-data", "check", "sweep", "resume", "status", "ensemble", "predict", "demo"}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "160", "TERM": "dumb"})
    assert result.exit_code == 0
    assert f"Example: forage {command}" in " ".join(result.stdout.split())


def test_make_data_then_check(shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pasture.synthetic

    draw = pasture.synthetic.make_data
    monkeypatch.setattr(pasture.synthetic, "make_data", lambda *a, **k: draw(*a, **k, width=128, height=64))
    said = shell("make-data", tmp_path / "data", "--images", 8, "--seed", 5)
    assert (said.status, said.out) == (0, "")
    assert "hidden_truth.csv" in said.err
    said = shell("check", tmp_path / "data")
    assert said.status == 0
    assert "8 labelled photographs" in said.out


def test_exclude(shell: Any, data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text(f"{read_train(data_folder).ids[0]}\n")
    said = shell("exclude", data_folder, tmp_path / "ids.txt", "--out", tmp_path / "fewer")
    assert (said.status, said.out) == (0, "")
    assert "23 labelled photographs, 1 of" in said.err
    assert len(read_train(tmp_path / "fewer")) == 23
    again = shell("exclude", data_folder, tmp_path / "ids.txt", "--out", tmp_path / "fewer")
    assert again.status == 2
    assert again.err.count("\n") == 1


def test_make_data_like_the_real_ones(shell: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pasture.synthetic.folder

    monkeypatch.setattr(pasture.synthetic.folder, "_write_pictures", lambda *_: None)
    said = shell("make-data", tmp_path / "data", "--like", "real")
    assert (said.status, said.out) == (0, "")
    assert "357 labelled photographs" in said.err
    assert read_train(tmp_path / "data").images["date"].nunique() == 28
    assert shell("make-data", tmp_path / "other", "--like", "nosuch").status == 2


def test_check_json(shell: Any, paddocks: Path) -> None:
    said = shell("check", paddocks, "--json")
    content = json.loads(said.out)
    assert set(content) == {"images", "dates", "baseline", "fingerprint", "pseudo_images", "test_images"}
    assert (said.status, content["images"], content["test_images"]) == (0, 24, 6)
    assert content["baseline"] == read_train(paddocks).baseline()


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


def test_gc_keeps_the_best_and_a_blend_of_what_is_left_still_predicts(
    shell: Any, swept: RunFolder, paddocks: Path, tmp_path: Path
) -> None:
    before = sum(swept.folder.sizes().values())
    said = shell("gc", swept, "--keep", 2)
    assert (said.status, said.err) == (0, "")
    freed = before - sum(swept.folder.sizes().values())
    assert freed > 0
    assert said.out == f"{swept}: {freed / 1e6:.1f} MB freed\n"
    assert shell("ensemble", swept, "--out", tmp_path / "blend", "--no-refit").status == 0
    assert shell("predict", tmp_path / "blend", paddocks, "--out", tmp_path / "s.csv").status == 0


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


def test_ensemble_json_then_predict(shell: Any, swept: RunFolder, paddocks: Path, tmp_path: Path) -> None:
    said = shell("ensemble", swept, "--out", tmp_path / "blend", "--json")
    content = json.loads(said.out)
    assert said.status == 0
    assert set(content) == ENSEMBLE_KEYS
    assert all(set(member) == {"trial", "weight", "score", "tta"} for member in content["members"])
    assert f"report: {tmp_path}/blend/report.html" in said.err
    said = shell("predict", tmp_path / "blend", paddocks, "--out", tmp_path / "s.csv", "--tta", "none")
    assert (said.status, said.out) == (0, "")
    asked = pd.read_csv(paddocks / "sample_submission.csv")
    assert list(pd.read_csv(tmp_path / "s.csv")["sample_id"]) == list(asked["sample_id"])


def test_ensemble_refits_frozen_members_unless_told_otherwise(
    shell: Any, swept: RunFolder, paddocks: Path, tmp_path: Path
) -> None:
    said = shell("ensemble", swept, "--out", tmp_path / "blend", "--method", "uniform")
    assert said.status == 0
    assert "2 of 3 members refitted on all photographs in " in said.err
    assert "--refit trains them on all photographs" in said.err
    assert [m.folds for m in Blend.read(tmp_path / "blend").members if m.recipe and m.recipe.banked] == [1, 1]
    assert shell("ensemble", swept, "--out", tmp_path / "folds", "--method", "uniform", "--no-refit").status == 0
    assert min(member.folds for member in Blend.read(tmp_path / "folds").members) > 1


def test_ensemble_without_the_photographs_keeps_the_models_of_the_folds(
    shell: Any, swept: RunFolder, tmp_path: Path
) -> None:
    swept.write_sweep(swept.read_sweep() | {"data": str(tmp_path / "gone")})
    said = shell("ensemble", swept, "--out", tmp_path / "blend")
    assert said.status == 0
    assert f"not refitted: {tmp_path}/gone" in said.err
    assert min(member.folds for member in Blend.read(tmp_path / "blend").members) > 1
    said = shell("ensemble", swept, "--out", tmp_path / "refit", "--refit")
    assert (said.status, said.err.splitlines()[-1].startswith(f"forage: {tmp_path}/gone")) == (2, True)


def test_ensemble_with_a_method_and_limits(shell: Any, swept: RunFolder, tmp_path: Path) -> None:
    words = ("ensemble", swept, "--no-refit", "--json", "--out")
    said = shell(*words, tmp_path / "auto", "--method", "auto", "--max-members", 2)
    content = json.loads(said.out)
    assert said.status == 0
    assert set(content["auto"]["held_out"]) == {
        "uniform",
        "best-k",
        "shrunk",
        "greedy",
        "simplex",
        "per-target",
        "ridge",
    }
    assert content["method"] in content["auto"]["held_out"]
    assert 1 <= len(content["members"]) <= 2
    said = shell(*words, tmp_path / "ridge", "--method", "ridge", "--scale-targets")
    content = json.loads(said.out)
    assert (content["method"], content["options"]) == ("ridge", {"scale": True})
    assert all(len(member["target_weights"]) == 5 for member in content["members"])
    read = Blend.read(tmp_path / "ridge")
    assert [list(m.target_weights) for m in read.members] == [
        list(m["target_weights"].values()) for m in content["members"]
    ]


def test_ensemble_tells_what_it_left_out_and_why(shell: Any, swept: RunFolder, tmp_path: Path) -> None:
    Path(str(swept), "oof", "t0001.parquet").write_bytes(b"damaged")
    said = shell("ensemble", swept, "--out", tmp_path / "blend", "--no-refit")
    assert said.status == 0
    assert "warning: run-t0001 left out: " in said.err
    assert "nested" in said.out


def test_ensemble_passes_on_what_makes_its_scores_less_than_honest(
    shell: Any, swept: RunFolder, tmp_path: Path
) -> None:
    for trial in ("t0000", "t0001"):
        table = swept.read_oof(trial)
        table.metadata["pseudo_images"] = 3
        table.write(swept.oof, f"{trial}.parquet")
    said = shell("ensemble", swept, "--out", tmp_path / "blend", "--no-refit")
    assert "warning: some members were trained on pseudo-labels" in said.err


def test_a_warning_of_ours_reaches_standard_error(shell: Any, paddocks: Path, tmp_path: Path) -> None:
    data = shutil.copytree(paddocks, tmp_path / "data")
    table = pd.read_csv(data / "train.csv")
    table.loc[table["target_name"] == "Dry_Total_g", "target"] += 5
    table.to_csv(data / "train.csv", index=False)
    said = shell("check", data, "--json")
    assert said.err.startswith("warning: ")
    assert "break the mass balance" in said.err
    json.loads(said.out)


def test_check_reports_every_finding_in_a_line_of_its_own(shell: Any, paddocks: Path, tmp_path: Path) -> None:
    data = shutil.copytree(paddocks, tmp_path / "data")
    table = pd.read_csv(data / "train.csv", dtype=str)
    table.loc[0, "target"] = "1e9"
    table.loc[7, "Sampling_Date"] = "soon"
    table.to_csv(data / "train.csv", index=False)
    next((data / "test").iterdir()).write_bytes(b"")
    said = shell("check", data)
    assert (said.status, said.out) == (2, "")
    lines = said.err.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"forage: {data}") for line in lines)


def test_check_refuses_constant_targets_in_one_line(shell: Any, paddocks: Path, tmp_path: Path) -> None:
    data = shutil.copytree(paddocks, tmp_path / "data")
    pd.read_csv(data / "train.csv").assign(target=0.0).to_csv(data / "train.csv", index=False)
    said = shell("check", data)
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert "have the same five targets" in said.err


BAD_INPUT = {
    "no data folder": "check {tmp}/nowhere",
    "no train.csv": "check {tmp}",
    "data folder exists": "make-data {data}",
    "too few images": "make-data {tmp}/new --images 0",
    "unknown space": "sweep {data} --space nosuch",
    "setting without =": "sweep {data} --set head.dropout",
    "setting of no field": "sweep {data} --set head.dropuot=0.1",
    "setting out of range": "sweep {data} --set head.dropout=2",
    "setting no YAML": "sweep {data} --set head.dropout=[1",
    "nothing to promote": "sweep {data} --promote 0",
    "more to promote than there are": "sweep {data} --trials 4 --promote 5",
    "no first stage": "sweep {data} --promote 2 --epochs 1",
    "no trial at all": "sweep {data} --hours 0",
    "negative failures": "sweep {data} --max-failures -1",
    "nothing to keep": "gc {run} --keep 0",
    "no run to tidy": "gc {data}",
    "a timeout of nothing": "resume {run} --trial-timeout 0",
    "a field set twice": "sweep {data} --set head.dropout=0.1 --set head.dropout=0.2",
    "epochs set twice": "sweep {data} --epochs 3 --set schedule.epochs=4",
    "a rule on several fields": "sweep {data} --set target.kind=ratios --set target.transform=log1p_z",
    "a score that is no number": "sweep {data} --until-score nan",
    "identical trials": "sweep {data} --space {tmp}/same.yaml",
    "an empty space": "sweep {data} --space {tmp}/empty.yaml",
    "no run to warm-start from": "sweep {data} --warm-start {tmp}/nowhere",
    "name is a path": "sweep {data} --name a/b",
    "name is hidden": "sweep {data} --name .a",
    "run exists": "sweep {data} --runs {tmp}/runs --name run",
    "unknown filesystem": "sweep {data} --runs nosuch://bucket",
    "no run to resume": "resume {data}",
    "no run to show": "status {data}",
    "no run to blend": "ensemble {data} --out {tmp}/blend",
    "nowhere to blend": "ensemble {tmp}/nowhere --out {tmp}/blend",
    "no such trial": "status {run} --trial t9999",
    "submission is a folder": "predict {blend} {data} --out {tmp}",
    "members are a folder": "predict {blend} {data} --out {tmp}/s.csv --members {tmp}",
    "submission below a file": "predict {blend} {data} --out {data}/train.csv/s.csv",
    "run given twice": "ensemble {run} {run} --out {tmp}/blend",
    "option of another method": "ensemble {run} --out {tmp}/blend --method uniform --bags 5",
    "blend exists": "ensemble {run} --out {tmp}",
    "no blend": "predict {data} {data} --out {tmp}/s.csv",
    "no test.csv": "predict {blend} {tmp} --out {tmp}/s.csv",
    "import of no file": "import {tmp}/nowhere.csv --truth {data}/train.csv --runs {tmp}/r --name x",
    "import without a truth": "import {data}/train.csv --truth {tmp}/nowhere.csv --runs {tmp}/r --name x",
    "import of no predictions": "import {data}/test.csv --truth {data} --runs {tmp}/r --name x",
    "demo in a full folder": "demo --out {data}",
    "demo in a file": "demo --out {data}/train.csv",
    "demo below a file": "demo --out {data}/train.csv/x",
    "runs in a file": "sweep {data} --runs {data}/train.csv",
    "import into a file": "import {tmp}/oof.csv --truth {data}/train.csv --runs {data}/train.csv",
    "data in a file": "make-data {data}/train.csv/x",
    "blend in a file": "ensemble {run} --out {data}/train.csv/x",
}


@pytest.mark.parametrize("words", BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_status_2(
    words: str, shell: Any, swept: RunFolder, paddocks: Path, blend: Any, tmp_path: Path
) -> None:
    places = {"tmp": tmp_path, "data": paddocks, "run": swept, "blend": blend.folder}
    (tmp_path / "same.yaml").write_text("search: {}\n")
    (tmp_path / "empty.yaml").touch()
    truth = swept.read_truth()[list(TARGETS)]
    (truth * np.random.default_rng(0).uniform(0.7, 1.3, truth.shape)).to_csv(tmp_path / "oof.csv")
    before = sorted(tmp_path.rglob("*"))
    said = shell(*words.format(**places).split())
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("forage: ")
    assert said.err.count("\n") == 1
    assert len(said.err) < 500
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


def test_a_bad_cache_limit_is_refused_before_anything_runs(
    shell: Any, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("abc", "-1", "nan", "inf"):
        monkeypatch.setenv("FORAGE_CACHE_LIMIT", limit)
        said = shell("check", paddocks)
        assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
        assert f"FORAGE_CACHE_LIMIT='{limit}': expected a positive number of GB" in said.err


def test_a_run_that_does_not_exist_is_named(shell: Any, tmp_path: Path) -> None:
    for words in (["ensemble", "--out", tmp_path / "b"], ["status"], ["resume"], ["gc"]):
        said = shell(words[0], tmp_path / "nowhere", *words[1:])
        assert said.err.startswith(f"forage: {tmp_path}/nowhere: not a run directory")


def test_names_in_messages_are_printed_as_they_are(shell: Any, tmp_path: Path) -> None:
    for name in ("a:cat:b", "run:1234", "[bold]x[/bold]"):
        assert f"{name}: not a run directory" in shell("status", tmp_path / name).err


def test_a_table_prints_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("trial")
    table.add_row("a:cat:[bold]b")
    show_table(table)
    assert "a:cat:[bold]b" in capsys.readouterr().out


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


def test_resume_can_retry_failed_trials(shell: Any, swept: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    import tune.sweep

    given: list[Any] = []
    monkeypatch.setattr(tune.sweep, "resume", lambda *_, **words: given.append(words) or outcome(swept))
    assert shell("resume", swept, "--retry-failed").status == 0
    assert shell("resume", swept).status == 0
    assert [words["retry_failed"] for words in given] == [True, False]


INTERRUPTED = {
    "features build {data} --recipe feature_ridge": "pasture.dataset.read_train",
    "predict {blend} {data} --out {tmp}/s.csv": "forage.blending.prediction.predict",
    "ensemble {run} --out {tmp}/blend": "ensemble.blend.build.build",
}


@pytest.mark.parametrize(("words", "function"), INTERRUPTED.items())
def test_ctrl_c_prints_one_line(
    words: str,
    function: str,
    shell: Any,
    swept: RunFolder,
    paddocks: Path,
    blend: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(function, interrupt)
    said = shell(*words.format(tmp=tmp_path, data=paddocks, run=swept, blend=blend.folder).split())
    assert (said.status, said.out, said.err) == (130, "", "forage: interrupted\n")


@pytest.mark.parametrize(
    "words", [["sweep"], ["check", "a", "b"], ["nosuch"], ["predict", "a", "b", "--out", "c", "--tta", "d8"]]
)
def test_wrong_usage_is_status_2_without_a_traceback(words: list[str], shell: Any) -> None:
    said = shell(*words)
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("Usage: ")
    assert "Traceback" not in said.err


def test_a_submission_that_cannot_be_met_is_refused_before_predicting(
    shell: Any, blend: Any, paddocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import forage.blending.prediction

    monkeypatch.setattr(forage.blending.prediction, "predict", lambda *_: pytest.fail("predicted all the same"))
    data = shutil.copytree(paddocks, tmp_path / "data")
    (data / "sample_submission.csv").write_text("sample_id,target\nID9__GDM_g,0\n")
    assert shell("predict", blend.folder, data, "--out", tmp_path / "s.csv").status == 2


@pytest.mark.parametrize(
    ("error", "status"), [(InputError("bad"), 2), (JobError("bad"), 1), (KeyboardInterrupt(), 130)]
)
def test_exit_statuses(
    error: BaseException, status: int, shell: Any, paddocks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pasture.data_check

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(pasture.data_check, "check_folder", fail)
    said = shell("check", paddocks)
    assert said.status == status
    assert said.out == ""
    assert said.err.count("\n") <= 1


def test_settings_are_yaml() -> None:
    words = ["a.b=0.3", "c=true", "d=[1, 2]", "e=none", "f=x=y", "g="]
    assert parse_settings(words) == {"a.b": 0.3, "c": True, "d": [1, 2], "e": "none", "f": "x=y", "g": None}
    with pytest.raises(InputError, match="expected field=value"):
        parse_settings(["=3"])


@pytest.mark.parametrize("value", ["[1, 2", "2001-13-40"])
def test_a_setting_that_is_no_yaml_is_named(value: str) -> None:
    with pytest.raises(InputError, match="not valid YAML"):
        parse_settings([f"head.dropout={value}"])


def test_import_then_ensemble_then_predict_is_told_what_is_missing(
    shell: Any, swept: RunFolder, paddocks: Path, tmp_path: Path
) -> None:
    theirs = swept.read_truth()[list(TARGETS)] * 0.9  # a model that knows the paddocks, and is always a little low
    theirs.reset_index().to_csv(tmp_path / "theirs.csv", index=False)
    words = ("--truth", paddocks / "train.csv", "--runs", tmp_path / "runs", "--name", "other")
    said = shell("import", tmp_path / "theirs.csv", *words, "--json")
    content = json.loads(said.out)
    assert (said.status, content["run"]) == (0, f"{tmp_path}/runs/other")
    assert [(m["trial"], m["missing"]) for m in content["members"]] == [("theirs", 0)]
    said = shell("ensemble", content["run"], "--out", tmp_path / "blend", "--json")
    assert [m["trial"] for m in json.loads(said.out)["members"]] == ["other-theirs"]
    assert "the folds of 1 external member(s) are unknown" in said.err
    assert "report: " in said.err
    words = ("predict", tmp_path / "blend", paddocks, "--out", tmp_path / "s.csv")
    said = shell(*words)
    assert said.status == 2
    assert "member other-theirs was imported and has no models" in said.err
    asked = pd.read_csv(paddocks / "sample_submission.csv")
    asked.assign(target=asked["sample_id"].str.endswith(("Green_g", "GDM_g", "Total_g")) * 7.0).to_csv(
        tmp_path / "test.csv", index=False
    )
    assert shell(*words, "--given", f"other-theirs={tmp_path}/test.csv").status == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "s.csv"), pd.read_csv(tmp_path / "test.csv"))
    assert "expected MEMBER=FILE" in shell(*words, "--given", "other-theirs").err
    assert "the external members of" in shell(*words, "--given", f"nobody={tmp_path}/test.csv").err
    assert "no prediction for" in shell(*words, "--given", f"other-theirs={tmp_path}/theirs.csv").err


def test_version_and_short_help(shell: Any) -> None:
    from trainables.recipe.versions import forage_version

    assert shell("--version") == (0, f"{forage_version()}\n", "")
    assert shell("-h").out == shell("--help").out
    assert "Usage: forage sweep" in shell("sweep", "-h").out


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "forage", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\S*\n", done.stdout)


def test_options_of_a_sweep_come_in_groups() -> None:
    result = CliRunner().invoke(app, ["sweep", "--help"], env={"COLUMNS": "160", "TERM": "dumb"})
    titles = re.findall(r"(?m)^╭─ (.+?) ─", result.stdout)
    assert titles == ["Arguments", "Options", "Search", "Pruning", "Budget", "Ray and resources"]
    assert result.stdout.index("─ Pruning ") < result.stdout.index("--grace") < result.stdout.index("─ Budget ")


def test_completion_knows_the_commands() -> None:
    env = {"_FORAGE_COMPLETE": "complete_bash", "COMP_WORDS": "forage re", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], env=env, prog_name="forage")
    assert {"resume", "recipes"} <= set(result.stdout.split())


def test_every_command_with_a_result_of_its_own_prints_json() -> None:
    """The others write a file or a folder, which is their result."""
    writers = {
        "make-data", "exclude", "eda", "batch", "report", "export", "watch", "predict", "refit", "pseudo", "bundle",
        "demo", "features build", "features import",
    }  # fmt: skip

    def commands(group: Any, above: str) -> Iterator[tuple[str, set[str]]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, f"{above}{name} ")
            else:
                yield f"{above}{name}", {word for param in command.params for word in param.opts}

    without = {name for name, words in commands(typer.main.get_command(app), "") if "--json" not in words}
    assert without <= writers
