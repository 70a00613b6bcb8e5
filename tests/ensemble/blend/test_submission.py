"""The submission file: the order that is asked for, and nothing that was not predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.blend.submission import read_order, write_submission
from pasture.errors import InputError, JobError
from pasture.targets import TARGETS, Array

IDS = ["B2", "A1", "C3"]


@pytest.fixture
def predictions() -> Array:
    return np.random.default_rng(0).gamma(2.0, 10.0, (3, 5))


def samples() -> list[str]:
    return [f"{image}__{target}" for image in IDS for target in TARGETS]


def ask(data: Path, order: list[str]) -> Path:
    pd.DataFrame({"sample_id": order, "target": 0.0}).to_csv(data / "sample_submission.csv", index=False)
    return data


@pytest.mark.parametrize("seed", range(3))
def test_rows_stand_in_the_order_asked_for(seed: int, tmp_path: Path, predictions: Array) -> None:
    order = [str(s) for s in np.random.default_rng(seed).permutation(samples())]
    write_submission(tmp_path / "s.csv", read_order(ask(tmp_path, order), IDS), IDS, predictions)
    written = pd.read_csv(tmp_path / "s.csv")
    assert list(written.columns) == ["sample_id", "target"]
    assert list(written["sample_id"]) == order
    expected = dict(zip(samples(), predictions.ravel(), strict=True))
    np.testing.assert_allclose(written["target"], [expected[s] for s in order], atol=1e-6)


def test_without_a_sample_submission_targets_follow_one_another(tmp_path: Path) -> None:
    assert read_order(tmp_path, IDS) == samples()


def test_fewer_rows_may_be_asked_for(tmp_path: Path, predictions: Array) -> None:
    order = read_order(ask(tmp_path, samples()[3:7]), IDS)
    write_submission(tmp_path / "s.csv", order, IDS, predictions)
    assert list(pd.read_csv(tmp_path / "s.csv")["sample_id"]) == samples()[3:7]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("sample_id,target\nB2__GDM_g,0\nD4__GDM_g,0\n", "'D4__GDM_g' is not a target of a photograph"),
        ("sample_id,target\nB2__GDM_g,0\n,0\n", "'' is not a target"),
        ("sample_id,target\nB2__GDM_g,0\nB2__GDM_g,0\n", "appears twice"),
        ("sample_id,target\n", "no column sample_id, or no rows"),
        ("id,target\nB2__GDM_g,0\n", "no column sample_id, or no rows"),
        ("", "not a CSV file"),
        ('sample_id,target\n"B2', "not a CSV file"),
    ],
)
def test_an_order_that_cannot_be_met_is_refused(content: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "sample_submission.csv").write_text(content)
    with pytest.raises(InputError, match=complaint) as caught:
        read_order(tmp_path, IDS)
    assert "\n" not in str(caught.value)


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
