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

from forage.cli import app
from forage.terminal.messages import show_table
from forage.terminal.words import parse_settings
from pasture.dataset import read_train
from pasture.errors import InputError, JobError
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]


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


def test_version_and_short_help(shell: Any) -> None:
    from trainables.recipe.versions import forage_version

    assert shell("--version") == (0, f"{forage_version()}\n", "")
    assert shell("-h").out == shell("--help").out
    assert "Usage: forage sweep" in shell("sweep", "-h").out


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "forage", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+\.\d+\S*\n", done.stdout)


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
