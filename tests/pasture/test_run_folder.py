"""The run directory: what one writes the other reads, and damage is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pasture.dataset import Dataset, read_train
from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.run_folder import RunFolder
from pasture.targets import TARGETS


@pytest.fixture
def run(folder: Folder) -> RunFolder:
    """A run directory that does not exist yet, on either filesystem."""
    run = RunFolder("unused")
    run.folder = folder
    return run


def test_a_run_is_named_after_its_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "lawn")
    assert run.name == "lawn"
    assert str(run) == str(tmp_path / "lawn")


def test_sweep_round_trip_keeps_types_order_and_accents(run: RunFolder) -> None:
    content = {"space": "tiny", "budget": {"trials": 3, "hours": 0.5}, "data": None, "by": ["Zoë", "Ana"], "ok": True}
    run.write_sweep(content)
    read = run.read_sweep()
    assert read == content
    assert list(read) == list(content)


def test_a_folder_without_sweep_is_no_run_directory(run: RunFolder) -> None:
    with pytest.raises(InputError, match="runs: not a run directory"):
        run.read_sweep()


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"just words", b"a: [1,", b"a: b: c", b"\xff\xfe\x00"])
def test_a_damaged_sweep_is_refused(run: RunFolder, content: bytes) -> None:
    run.folder.write("sweep.yaml", content)
    with pytest.raises(InputError, match=r"runs/sweep\.yaml: damaged"):
        run.read_sweep()


def test_a_sweep_that_would_run_code_is_refused(run: RunFolder, tmp_path: Path) -> None:
    run.folder.write("sweep.yaml", f"a: !!python/object/apply:os.mkdir ['{tmp_path}/made']".encode())
    with pytest.raises(InputError, match="damaged"):
        run.read_sweep()
    assert not (tmp_path / "made").exists()


def test_truth_round_trip(run: RunFolder, data: Path) -> None:
    dataset = read_train(data)
    run.write_truth(dataset)
    truth = run.read_truth()
    assert truth.index.tolist() == dataset.ids
    assert truth["date"].tolist() == dataset.dates.tolist()
    np.testing.assert_array_equal(truth[list(TARGETS)], dataset.targets)


def test_pseudo_labels_are_no_truth(run: RunFolder, data: Path) -> None:
    dataset = read_train(data)
    images = dataset.images.assign(pseudo_weight=[np.nan, 0.5, np.nan, np.nan])
    run.write_truth(Dataset(dataset.root, images))
    assert run.read_truth().index.tolist() == ["ID0001", "ID0003", "ID0004"]


@pytest.mark.parametrize("damage", [lambda c: c[:-20], lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"text"])
def test_a_damaged_truth_is_refused(run: RunFolder, data: Path, damage: object) -> None:
    run.write_truth(read_train(data))
    run.folder.write("truth.parquet", damage(run.folder.read("truth.parquet")))  # type: ignore[operator]
    with pytest.raises(InputError, match=r"truth\.parquet: damaged"):
        run.read_truth()


def test_a_flipped_byte_of_the_truth_is_refused_or_harmless(tmp_path: Path, data: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.write_truth(read_train(data))
    content, expected = run.folder.read("truth.parquet"), run.read_truth()
    refused = 0
    for position in range(0, len(content), 19):
        (tmp_path / "run/truth.parquet").write_bytes(
            content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]
        )
        try:
            read = run.read_truth()
        except InputError:
            refused += 1
        else:
            pd.testing.assert_frame_equal(read, expected)
    assert refused > len(content) / 19 / 3


def test_an_absent_truth_is_refused(run: RunFolder) -> None:
    with pytest.raises(InputError, match=r"cannot read .*truth\.parquet"):
        run.read_truth()


def test_a_truth_with_other_columns_is_refused(tmp_path: Path) -> None:
    pd.DataFrame({"image_id": ["a"], "date": ["2015-09-04"]}).to_parquet(tmp_path / "truth.parquet")
    with pytest.raises(InputError, match=r"truth\.parquet: columns .*expected .*Dry_Total_g"):
        RunFolder(tmp_path).read_truth()


def test_oof_is_found_where_it_is_written(run: RunFolder) -> None:
    table = OofTable(["a", "b"], np.array([0, 1], dtype=np.int8), np.ones((2, 1, 5)), {"trial": "t1"})
    table.write(run.oof, "t1.parquet")
    assert run.read_oof("t1").metadata == {"trial": "t1"}
    with pytest.raises(InputError, match=r"oof/t2\.parquet"):
        run.read_oof("t2")


def test_the_parts_of_a_run_lie_where_the_contract_says(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    parts = [run.oof, run.epochs, run.checkpoints, run.trials, run.weights("t1")]
    assert [p.path for p in parts] == [
        f"{tmp_path}/{n}" for n in ("oof", "epochs", "checkpoints", "trials", "weights/t1")
    ]


def test_epochs_round_trip(run: RunFolder) -> None:
    epochs = np.arange(3 * 4 * 5).reshape(3, 4, 5) / 2
    run.write_epochs("t1", epochs)
    np.testing.assert_array_equal(run.read_epochs("t1"), epochs)
    assert run.epochs.names() == ["t1.npz"]


def test_a_trial_without_epochs_has_none(run: RunFolder) -> None:
    assert run.read_epochs("t1") is None


def test_damaged_epochs_are_refused_or_harmless(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    epochs = np.arange(3 * 4 * 5).reshape(3, 4, 5) / 2
    run.write_epochs("t1", epochs)
    content = run.epochs.read("t1.npz")
    for position in range(0, len(content), 5):
        flipped = content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :]
        (tmp_path / "epochs/cut.npz").write_bytes(content[:position])
        (tmp_path / "epochs/flipped.npz").write_bytes(flipped)
        with pytest.raises(InputError, match=r"epochs/cut\.npz: damaged"):
            run.read_epochs("cut")
        try:
            read = run.read_epochs("flipped")
        except InputError:
            continue
        np.testing.assert_array_equal(read, epochs, f"byte {position}")


def test_epochs_that_would_unpickle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "epochs").mkdir()
    np.savez(tmp_path / "epochs/t1.npz", predictions=np.array([1.0, 2.0], dtype=object))
    with pytest.raises(InputError, match=r"epochs/t1\.npz: damaged"):
        RunFolder(tmp_path).read_epochs("t1")


def test_epochs_under_another_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "epochs").mkdir()
    np.savez(tmp_path / "epochs/t1.npz", other=np.ones(3))
    with pytest.raises(InputError, match=r"epochs/t1\.npz: damaged"):
        RunFolder(tmp_path).read_epochs("t1")
