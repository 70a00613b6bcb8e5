from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from pasture.dataset import read_train
from pasture.errors import JobError
from pasture.verification import VerifiedDataset, verify
from tune.cluster.data_copy import local_copy


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Files that were fetched; the cache is empty at first."""
    monkeypatch.setenv("FORAGE_CACHE", str(tmp_path / "cache"))
    return []


def fetch(data: Path, source: Path, dataset: VerifiedDataset, asked: list[str]) -> VerifiedDataset:
    """`data` as a node has it that reaches `source` through the driver."""
    names = ["train.csv", *(str(path) for path in read_train(source).images["image_path"])]
    return local_copy(
        str(data),
        dataset.fingerprint,
        lambda: names,
        lambda name: (asked.append(name), (source / name).read_bytes())[1],
    )


def test_a_node_that_has_the_data_fetches_nothing(
    data_folder: Path, dataset: VerifiedDataset, asked: list[str]
) -> None:
    assert fetch(data_folder, data_folder, dataset, asked).root == data_folder
    assert asked == []


@pytest.mark.parametrize("there", ["nothing", "other pictures", "other dates"])
def test_a_node_without_them_fetches_them_once(
    data_folder: Path, dataset: VerifiedDataset, asked: list[str], tmp_path: Path, there: str
) -> None:
    data = tmp_path / "data"
    if there != "nothing":
        shutil.copytree(data_folder, data)
    if there == "other pictures":
        picture = next((data / "train").iterdir())
        picture.write_bytes(picture.read_bytes() + b"x")
    elif there == "other dates":
        table = pd.read_csv(data / "train.csv", dtype=str)
        first = table["Sampling_Date"].iloc[0]
        table.loc[table["Sampling_Date"] == first, "Sampling_Date"] = "2019/1/1"
        table.to_csv(data / "train.csv", index=False)
    copy = fetch(data, data_folder, dataset, asked)
    assert copy.root.is_relative_to(tmp_path / "cache")
    assert copy.fingerprint == verify(read_train(copy.root)).fingerprint == dataset.fingerprint
    assert len(asked) == 1 + len(dataset)
    assert fetch(data, data_folder, dataset, asked).root == copy.root
    assert len(asked) == 1 + len(dataset)


@pytest.mark.parametrize("left", ["half", "damaged"])
def test_what_a_killed_process_left_is_fetched_again(
    data_folder: Path, dataset: VerifiedDataset, asked: list[str], tmp_path: Path, left: str
) -> None:
    copy = fetch(tmp_path / "gone", data_folder, dataset, asked).root
    if left == "half":
        copy.rename(copy.with_name(f".{copy.name}.partial"))
    else:
        (copy / "train.csv").write_bytes(b"sample_id\n")
    assert fetch(tmp_path / "gone", data_folder, dataset, asked).root == copy
    assert verify(read_train(copy)).fingerprint == dataset.fingerprint


def test_data_that_have_changed_under_the_driver_are_refused(
    data_folder: Path, dataset: VerifiedDataset, asked: list[str], tmp_path: Path
) -> None:
    changed = shutil.copytree(data_folder, tmp_path / "changed")
    picture = next((changed / "train").iterdir())
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(JobError, match="the data have changed since the sweep was started"):
        fetch(tmp_path / "gone", changed, dataset, asked)


def test_a_cache_that_cannot_be_written(
    data_folder: Path, dataset: VerifiedDataset, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(JobError, match=r"cannot write the cache .*set FORAGE_CACHE"):
        fetch(tmp_path / "gone", data_folder, dataset, asked)
