"""The submission file has the rows and the order that it is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.prediction.submission import write_submission
from pasture.errors import JobError
from pasture.sample_ids import join_sample_ids
from pasture.targets import Array

IDS = ["B2", "A1", "C3"]


@pytest.fixture
def predictions() -> Array:
    return np.random.default_rng(0).gamma(2.0, 10.0, (3, 5))


def samples() -> list[str]:
    return join_sample_ids(IDS)


@pytest.mark.parametrize("seed", range(3))
def test_rows_stand_in_the_order_asked_for(seed: int, tmp_path: Path, predictions: Array) -> None:
    order = [str(s) for s in np.random.default_rng(seed).permutation(samples())]
    write_submission(tmp_path / "s.csv", order, IDS, predictions)
    written = pd.read_csv(tmp_path / "s.csv")
    assert list(written.columns) == ["sample_id", "target"]
    assert list(written["sample_id"]) == order
    expected = dict(zip(samples(), predictions.ravel(), strict=True))
    np.testing.assert_allclose(written["target"], [expected[s] for s in order], atol=1e-6)


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, predictions: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s.csv"
    out.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(JobError, match="No space left"):
        write_submission(out, samples(), IDS, predictions)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


def test_a_folder_in_the_way_is_one_line(tmp_path: Path, predictions: Array) -> None:
    (tmp_path / "s.csv").mkdir()
    with pytest.raises(JobError, match="cannot write"):
        write_submission(tmp_path / "s.csv", samples(), IDS, predictions)
