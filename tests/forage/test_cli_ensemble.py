"""Blends by the command line: ensemble, import, predict and gc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ensemble.blend.blend import Blend
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS

pytestmark = pytest.mark.heavy


ENSEMBLE_KEYS = {
    "fitted", "nested", "interval", "best_single", "uniform", "uniform_nested", "optimum", "gap", "baseline",
    "method", "options", "auto", "tta", "members", "start", "targets", "prefixes", "steps",
}  # fmt: skip


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
    assert "the external members of" in shell(*words, "--given", f"unknown={tmp_path}/test.csv").err
    assert "no prediction for" in shell(*words, "--given", f"other-theirs={tmp_path}/theirs.csv").err
