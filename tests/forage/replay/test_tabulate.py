"""`forage tabulate`: sweeps to a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from forage.replay.table import Table
from pasture.dataset import read_train
from pasture.folds import make_folds
from pasture.metric import weighted_r2
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from tests.forage.conftest import Shell
from tests.forage.outer_cv.conftest import SPACE, launched

__all__ = ["launched"]


@pytest.fixture
def words(paddocks: Path, tmp_path: Path) -> list[object]:
    """A whole command line."""
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    options = ["--space", tmp_path / "space.yaml", "--recipes", 3, "--splits", 2, "--out", tmp_path / "table.parquet"]
    return ["tabulate", paddocks, *options, "--json"]


@pytest.mark.heavy
def test_a_table_holds_what_the_trials_left_behind(
    shell: Shell, words: list[object], launched: list[str], tmp_path: Path, paddocks: Path
) -> None:
    said = shell(*words)
    assert said.status == 0, said.err
    assert json.loads(said.out) | {"table": ""} == {"table": "", "recipes": 3, "splits": 2, "trained": 6}
    assert launched == ["seed0-split0-table", "seed0-split1-table"]
    table = Table.read(tmp_path / "table.parquet")
    assert [entry.start for entry in table.entries] == [True, True, False]
    dataset = read_train(paddocks)
    groups = make_folds(dataset, "stratified_group", 2, 0)
    for number, split in enumerate(table.splits):
        held = np.flatnonzero(groups == number)
        assert np.array_equal(split.outer_truth, dataset.targets[held])
        assert split.dates.tolist() == dataset.dates[groups != number].tolist()
        run = RunFolder(tmp_path / "table.runs" / f"seed0-split{number}-table")
        for name, trained in zip(("t0000", "t0001", "t0002"), split.trained, strict=True):
            assert trained is not None
            oof, outer = run.read_oof(name), OofTable.read(run.outer, f"{name}.parquet")
            np.testing.assert_allclose(trained.oof, oof.mean(tuple(range(8))), rtol=1e-3, atol=1e-3)
            np.testing.assert_allclose(trained.outer, outer.mean(tuple(range(8))), rtol=1e-3, atol=1e-3)
            curve = oof.metadata["curve"]
            assert trained.scores == pytest.approx([report["score"] for report in curve], abs=1e-6)
            assert trained.seconds == pytest.approx([report["seconds"] for report in curve], rel=1e-6)
            epochs = run.read_epochs(name)
            assert epochs is not None
            assert 1 - trained.date_losses.sum(axis=1) / _total(split.truth) == pytest.approx(
                [weighted_r2(split.truth, epoch) for epoch in epochs], abs=1e-5
            )


def _total(truth: np.ndarray) -> float:
    mean = np.zeros_like(truth) + truth @ [0.1, 0.1, 0.1, 0.2, 0.5] @ np.ones(len(truth)) / len(truth)
    residual = ((truth - mean) ** 2 @ [0.1, 0.1, 0.1, 0.2, 0.5]).sum()
    return float(residual)


def test_bad_input_is_one_line(shell: Shell, words: list[object], launched: list[str], tmp_path: Path) -> None:
    said = shell(*words, "--splits", 50)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert "--splits 50: the data have" in said.err
    (tmp_path / "table.parquet").write_text("")
    said = shell(*words)
    assert said.status == 2
    assert "exists already; choose another --out, or remove it" in said.err
    assert launched == []
