"""Runs and blends that earlier versions wrote: they open and predict as they did, and a newer format is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import forage
from pasture.checksum import add_checksum, remove_checksum
from pasture.errors import InputError
from pasture.metric import weighted_r2
from pasture.targets import TARGETS
from trainables.features import embeddings


@pytest.fixture(autouse=True)
def bank(golden_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embeddings that the golden trials were trained on."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    embeddings.adopt("golden", forage.load_run(golden_folder / "run").folder.banks)


def test_the_run_opens(golden_folder: Path) -> None:
    run = forage.load_run(golden_folder / "run")
    trials = run.trials.set_index("trial")
    assert trials["status"].to_dict() == {
        "t0000": "COMPLETE", "t0001": "COMPLETE", "t0002": "PRUNED", "t0003": "FAILED"
    }  # fmt: skip
    assert run.curves.groupby("trial").size().to_dict() == {"t0000": 1, "t0001": 3, "t0002": 1}
    truth = run.truth[list(TARGETS)]
    for trial, rows in run.oof.groupby("trial"):
        predicted = rows.set_index("image_id").loc[truth.index, list(TARGETS)]
        assert weighted_r2(truth.to_numpy(), predicted.to_numpy()) == pytest.approx(trials["score"][trial], abs=1e-4)


def test_the_run_can_be_blended(golden_folder: Path, tmp_path: Path) -> None:
    blend = forage.build(golden_folder / "run", tmp_path / "blend", tta="none", refit=False)
    assert set(blend.members["trial"]) <= {"run-t0000", "run-t0001"}


def test_the_blend_opens_and_predicts_what_it_did(golden_folder: Path) -> None:
    blend = forage.load_blend(golden_folder / "blend")
    assert sorted(blend.members["trial"]) == ["run-t0000", "run-t0001"]
    truth = forage.load_run(golden_folder / "run").truth.loc[blend.oof.index, list(TARGETS)]
    assert weighted_r2(truth.to_numpy(), blend.oof.to_numpy()) == pytest.approx(blend.scores["fitted"], abs=1e-4)
    predictions = blend.predict(golden_folder / "data")
    expected = json.loads((golden_folder / "expected.json").read_text())["predictions"]
    np.testing.assert_allclose([expected[image] for image in predictions.index], predictions, rtol=1e-3, atol=1e-3)


def test_a_run_of_a_newer_format_is_refused(golden_folder: Path, tmp_path: Path, shell: Any) -> None:
    run = shutil.copytree(golden_folder / "run", tmp_path / "run")
    content = yaml.safe_load(remove_checksum((run / "sweep.yaml").read_bytes()))
    (run / "sweep.yaml").write_bytes(add_checksum(yaml.safe_dump(content | {"format": 2, "new": 1}).encode()))
    message = "sweep.yaml: format 2, written by a newer forage; this one reads formats up to 1: upgrade forage"
    with pytest.raises(InputError, match=message):
        forage.load_run(run)
    for words in (["resume", run], ["status", run], ["gc", run], ["ensemble", run, "--out", tmp_path / "blend"]):
        said = shell(*words)
        assert (said.status, said.out, said.err) == (2, "", f"forage: {run}/{message}\n")


@pytest.mark.parametrize(
    ("number", "message"),
    [(2, "format 2, written by a newer forage"), (None, "damaged, or of another version"), ("1", "format '1'")],
)
def test_a_blend_of_another_format_is_refused(
    number: Any, message: str, golden_folder: Path, tmp_path: Path, shell: Any
) -> None:
    blend = shutil.copytree(golden_folder / "blend", tmp_path / "blend")
    content = json.loads((blend / "blend.json").read_text())
    (blend / "blend.json").write_text(json.dumps(content | {"format": number}))
    said = shell("predict", blend, golden_folder / "data", "--out", tmp_path / "s.csv")
    assert (said.status, said.out, said.err.count("\n")) == (2, "", 1)
    assert said.err.startswith(f"forage: {blend}/blend.json: ")
    assert message in said.err
