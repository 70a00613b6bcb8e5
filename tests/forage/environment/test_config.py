"""forage.toml: defaults of options, which the command line overrides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forage.python_api import functions as api


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of every sweep, which proposes nothing."""
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(api, "propose", lambda *_, **words: calls.append(words) or [])
    return calls


def test_a_default_holds_until_the_command_line_says_otherwise(
    here: Path, asked: list[dict[str, Any]], shell: Any
) -> None:
    (here / "forage.toml").write_text('[sweep]\ntrials = 7\ngpus-per-trial = 0.5\nset = ["head.dropout=0.25"]\n')
    assert shell("sweep", "data", "--dry-run").status == 0
    assert shell("sweep", "data", "--dry-run", "--trials", 3).status == 0
    assert [words["trials"] for words in asked] == [7, 3]
    assert [words["gpus_per_trial"] for words in asked] == [0.5, 0.5]
    assert [words["settings"] for words in asked] == [{"head.dropout": 0.25}] * 2


def test_a_variable_goes_before_the_file_and_the_command_line_before_it(
    here: Path, asked: list[dict[str, Any]], shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "forage.toml").write_text("[sweep]\ntrials = 7\nseed = 5\n")
    monkeypatch.setenv("FORAGE_SWEEP_TRIALS", "9")
    monkeypatch.setenv("FORAGE_SWEEP_SET", "head.dropout=0.25 view.size=64")
    monkeypatch.setenv("FORAGE_SWEEP_PRUNER", "")
    monkeypatch.setenv("FORAGE_SWEEP_START", "no")
    assert shell("sweep", "data", "--dry-run").status == 0
    assert shell("sweep", "data", "--dry-run", "--trials", 3).status == 0
    assert [words["trials"] for words in asked] == [9, 3]
    assert [(words["seed"], words["pruner"], words["start"]) for words in asked] == [(5, "asha", False)] * 2
    assert asked[0]["settings"] == {"head.dropout": 0.25, "view.size": 64}
    said = shell("config")
    assert "forage sweep --trials: 7\n" in said.out
    assert "environment, before the file:\n  forage sweep --trials: 9\n" in said.out
    assert "forage sweep --set: ['head.dropout=0.25', 'view.size=64']\n" in said.out
    assert json.loads(shell("config", "--json").out)["environment_defaults"]["sweep"]["trials"] == "9"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FORAGE_OUTER_CV_SEED", "3", "FORAGE_OUTER_CV_SEED: forage outer-cv has no option --seed"),
        ("FORAGE_SWEEP_TRIALS", "many", "--trials"),
    ],
)
def test_a_bad_variable_is_refused(
    variable: str, value: str, message: str, here: Path, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    said = shell("sweep", "data", "--dry-run")
    assert (said.status, said.out) == (2, "")
    assert message in said.err


def test_config_shows_the_defaults_and_the_environment(here: Path, shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CACHE", "somewhere")
    assert shell("config").out.startswith("no forage.toml here\n")
    (here / "other.toml").write_text("[resume]\nmax-failures = 5\n")
    monkeypatch.setenv("FORAGE_CONFIG", "other.toml")
    said = shell("config", "--json")
    content = json.loads(said.out)
    assert (content["file"], content["defaults"]) == ("other.toml", {"resume": {"max_failures": 5}})
    assert content["environment"]["FORAGE_CACHE"] == "somewhere"
    assert "forage resume --max-failures: 5" in shell("config").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sweep", "not a readable TOML file"),
        ("[nosuch]\na = 1", "nosuch: expected tables named after commands"),
        ("sweep = 3", "sweep: expected tables named after commands"),
        ("[sweep]\ntrails = 3", "[sweep] trails: forage sweep has no option --trails"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(text: str, message: str, here: Path, shell: Any) -> None:
    (here / "forage.toml").write_text(text)
    said = shell("sweep", "data", "--dry-run")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith("forage: forage.toml: ")
    assert message in said.err


def test_a_value_of_another_type_names_the_option(here: Path, shell: Any) -> None:
    (here / "forage.toml").write_text('[sweep]\ntrials = "many"\n')
    said = shell("sweep", "data", "--dry-run")
    assert said.status == 2
    assert "--trials" in said.err


def test_a_file_that_is_named_must_exist(here: Path, shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORAGE_CONFIG", "nowhere.toml")
    said = shell("recipes", "list")
    assert (said.status, said.err) == (2, "forage: FORAGE_CONFIG=nowhere.toml: no such file\n")
