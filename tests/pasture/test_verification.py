"""Pictures are decoded, compared and fingerprinted."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from PIL import Image

from pasture.dataset import read_train
from pasture.errors import DataError
from pasture.verification import VerifiedDataset, fingerprint_of, verify, with_fingerprint


def test_a_verified_dataset_is_the_dataset_with_its_fingerprint(data: Path) -> None:
    dataset = read_train(data)
    verified = verify(dataset)
    assert (verified.root, verified.ids) == (dataset.root, dataset.ids)
    assert verified.images is dataset.images
    again = with_fingerprint(dataset, verified.fingerprint)
    assert isinstance(again, VerifiedDataset)
    assert again.fingerprint == verified.fingerprint


def test_without_pictures_the_fingerprint_is_that_of_the_table(data: Path) -> None:
    dataset = read_train(data)
    with_pictures = verify(dataset, needs_pictures=False).fingerprint
    assert with_pictures == verify(dataset).fingerprint
    shutil.rmtree(data / "train")
    assert verify(dataset, needs_pictures=False).fingerprint == fingerprint_of(dataset) != with_pictures


def test_all_broken_pictures_are_findings_of_one_error(data: Path) -> None:
    (data / "train/ID0001.jpg").unlink()
    (data / "train/ID0003.jpg").write_text("grass")
    with pytest.raises(DataError) as caught:
        verify(read_train(data))
    assert [finding.partition(": ")[2] for finding in caught.value.findings] == [
        "no such picture; image_path is relative to the data folder",
        "not a readable picture (unknown format); replace the file or drop its rows",
    ]


def test_sound_pictures_give_no_warning(data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify(read_train(data))


def test_identical_pictures_under_two_ids_are_warned_about(data: Path) -> None:
    shutil.copy(data / "train/ID0003.jpg", data / "train/ID0001.jpg")
    with pytest.warns(UserWarning, match=r"1 picture\(s\) are identical .* such as ID0003 and ID0001; .* too high"):
        verify(read_train(data))


@pytest.mark.parametrize(("width", "height", "odd"), [(32, 16, False), (34, 16, False), (16, 32, True), (24, 16, True)])
def test_odd_aspect_ratios_are_warned_about(data: Path, width: int, height: int, odd: bool) -> None:
    Image.new("RGB", (width, height), "green").save(data / "train/ID0002.jpg")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        verify(read_train(data))
    assert len(caught) == odd
    if odd:
        assert f"1 picture(s) are not about twice as wide as high, such as ID0002 ({width} x {height})" in str(
            caught[0].message
        )
