"""CSV files and TensorBoard event files, written live and read back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pasture.run_folder import RunFolder
from tune.records.ledger import Ledger
from tune.trackers.choose import identity
from tune.trackers.names import METRICS, metrics

Follow = Callable[..., None]


def scalars(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_the_names_are_the_ones_that_people_expect() -> None:
    report: dict[str, Any] = {
        "epoch": 2, "score": 0.5, "epoch_score": 0.4, "train_loss": 0.3, "head_lr": 0.01, "r2_Dry_Total_g": 0.6,
        "r2_Dry_Clover_g": float("nan"), "date_losses": [1.0],
    }  # fmt: skip
    assert metrics(report) == {
        "val/score": 0.5, "val/epoch_score": 0.4, "train/loss": 0.3, "train/lr": 0.01, "val/r2_total": 0.6
    }  # fmt: skip


def test_csv_files_have_a_row_for_each_epoch(golden: RunFolder, follow_two_sessions: Follow) -> None:
    follow_two_sessions("csv")
    ledger = Ledger(golden).records
    for trial in ("t0000", "t0001", "t0002"):
        table = pd.read_csv(f"{golden}/trackers/csv/{trial}.csv")
        assert list(table.columns) == ["trial", "epoch", *METRICS]
        assert list(table["epoch"]) == [report["epoch"] for report in ledger[trial].curve]
        assert table["val/score"].tolist() == pytest.approx([report["score"] for report in ledger[trial].curve])
        assert set(table["trial"]) == {trial}


def test_event_files_have_every_epoch_once(golden: RunFolder, follow_two_sessions: Follow) -> None:
    follow_two_sessions("tensorboard")
    folder = Path(golden.trackers.path) / "tensorboard"
    assert sorted(path.name for path in folder.iterdir()) == ["t0000", "t0001", "t0002", "t0003"]
    curve = Ledger(golden).records["t0001"].curve
    found = scalars(folder / "t0001")
    for name, field in (("val/score", "score"), ("train/loss", "train_loss"), ("val/r2_total", "r2_Dry_Total_g")):
        points = found.Scalars(name)
        assert [point.step for point in points] == [1, 2, 3]
        assert [point.value for point in points] == pytest.approx([report[field] for report in curve])
    assert len(list((folder / "t0001").iterdir())) == 2, "the second session continues in a file of its own"
    assert len(list((folder / "t0000").iterdir())) == 1, "what an earlier session has written is not written again"
    assert b"head.kind" in b"".join(path.read_bytes() for path in (folder / "t0001").iterdir()), "the drawn fields"


def test_all_trackers_of_a_run_get_the_same_identity(golden: RunFolder) -> None:
    with ThreadPoolExecutor(8) as pool:
        identities = set(pool.map(lambda _: identity(golden), range(64)))
    assert identities == {golden.trackers.read("id").decode()}


def test_an_epoch_that_was_half_written_is_written_again(golden: RunFolder, follow_two_sessions: Follow) -> None:
    follow_two_sessions("tensorboard")
    folder = Path(golden.trackers.path) / "tensorboard" / "t0001"
    first, second = sorted(folder.iterdir())
    second.unlink()
    with first.open("r+b") as file:  # killed while the second epoch was written
        file.truncate(first.stat().st_size - 20)
    follow_two_sessions("tensorboard")
    assert [point.step for point in scalars(folder).Scalars("val/score")] == [1, 2, 3]
    assert [point.step for point in scalars(folder).Scalars("time/images_per_second")] == [1, 2, 3]
