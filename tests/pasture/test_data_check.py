"""A data folder is checked whole: all findings at once, warnings only for a folder that is otherwise sound."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pasture.data_check import check_folder
from pasture.data_table import read_sample_submission
from pasture.dataset import read_test, read_train
from pasture.errors import DataError, InputError
from pasture.sample_ids import join_sample_ids
from pasture.verification import verify


def test_a_sound_folder_gives_both_datasets_with_their_fingerprints(data: Path) -> None:
    checked = check_folder(data)
    assert checked.train.fingerprint == verify(read_train(data)).fingerprint
    assert checked.test is not None
    assert checked.test.fingerprint == verify(read_test(data)).fingerprint
    (data / "test.csv").unlink()
    assert check_folder(data).test is None


def test_findings_of_tables_and_pictures_are_all_reported(data: Path) -> None:
    train = pd.read_csv(data / "train.csv", dtype=str)
    train.loc[2, "target"] = "-3"
    train.loc[9, "image_path"] = "../outside.jpg"
    train.to_csv(data / "train.csv", index=False)
    (data / "train/ID0001.jpg").unlink()
    (data / "train/ID0003.jpg").write_bytes(b"")
    pd.DataFrame({"sample_id": ["T1"]}).to_csv(data / "test.csv", index=False)
    with pytest.raises(DataError) as caught:
        check_folder(data)
    patterns = [
        r"train\.csv, line 11: image_path '\.\./outside\.jpg' leaves the data folder",
        r"train\.csv, line 4: target '-3' is negative",
        r"train\.csv, line 11: image_path differs from that of the other rows of image ID0003",
        r"ID0003\.jpg: not a readable picture",
        r"ID0001\.jpg: no such picture",
        r"test\.csv: column\(s\) image_path, target_name missing",
    ]
    findings = caught.value.findings
    assert len(findings) == len(patterns), findings
    assert all(re.search(p, f) for p, f in zip(patterns, findings, strict=True)), findings


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such data folder"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"train\.csv: no such file"):
        check_folder(tmp_path)


def test_a_test_picture_that_is_a_training_picture_is_warned_about(data: Path) -> None:
    shutil.copy(data / "train/ID0002.jpg", data / "test/T1.jpg")
    expected = r"1 test picture\(s\) are also training pictures, such as T1 of test\.csv and ID0002 of train\.csv"
    with pytest.warns(UserWarning, match=expected):
        check_folder(data)


def write_submission(data: Path, samples: list[str]) -> None:
    pd.DataFrame({"sample_id": samples, "target": 0.0}).to_csv(data / "sample_submission.csv", index=False)


def test_the_order_of_sample_submission_is_kept(data: Path) -> None:
    samples = join_sample_ids(["T1"])
    assert read_sample_submission(data, ["T1"]) == samples
    write_submission(data, samples[::-1])
    assert read_sample_submission(data, ["T1"]) == samples[::-1]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (join_sample_ids(["T1"])[:3], "2 of 5 rows missing, such as 'T1__GDM_g'"),
        (join_sample_ids(["T1", "T2"]), "'T2__Dry_Green_g' is not a target of a photograph in test.csv"),
        ([*join_sample_ids(["T1"]), "T1__GDM_g"], "sample_id 'T1__GDM_g' appears twice"),
        ([], "no rows"),
    ],
    ids=["missing", "foreign", "twice", "empty"],
)
def test_other_rows_in_sample_submission_are_refused(data: Path, samples: list[str], message: str) -> None:
    write_submission(data, samples)
    for read in (lambda: read_sample_submission(data, ["T1"]), lambda: check_folder(data)):
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            read()
        assert str(data / "sample_submission.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,target\nT1__GDM_g,0\n", "column(s) sample_id missing"),
        ("", "not a CSV file"),
        ('sample_id\n"T1', "not a CSV"),
    ],
)
def test_a_sample_submission_that_is_no_table_is_refused(data: Path, content: str, message: str) -> None:
    (data / "sample_submission.csv").write_text(content)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_sample_submission(data, ["T1"])
    assert "\n" not in str(caught.value)
