"""What a blend was judged on, written and read; what is said about test-time augmentation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ensemble.estimate.evidence import NAME, Evidence
from ensemble.estimate.remarks import tta_remarks
from pasture.errors import InputError
from pasture.files import Folder

TRUTH = np.arange(20.0).reshape(4, 5)
EVIDENCE = Evidence(
    image_ids=["a", "b", "c<d>", "ü"],
    dates=np.array(["2015-01-01", "2015-01-01", "2015-02-01", "2015-03-01"]),
    truth=TRUTH,
    predictions=np.repeat(TRUTH[:, None], 8, axis=1) + np.arange(8)[None, :, None],
    members=np.stack([TRUTH, TRUTH + 1]),
    unseen=np.zeros((0, 4, 5)),
    projected=False,
    refused=[("run-t0001", "no weights")],
    data="/data",
)


def test_it_reads_as_it_was_written(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    EVIDENCE.write(folder)
    read = Evidence.read(folder)
    for field in dataclasses.fields(Evidence):
        expected, found = getattr(EVIDENCE, field.name), getattr(read, field.name)
        assert np.array_equal(found, expected) if isinstance(expected, np.ndarray) else found == expected, field.name


@pytest.mark.parametrize(("content", "words"), [(None, "has no evidence.npz"), (b"PK\x03\x04", "damaged")])
def test_no_evidence_or_damaged_evidence(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / NAME).write_bytes(content)
    with pytest.raises(InputError, match=words):
        Evidence.read(Folder.at(tmp_path))


def test_more_elements_that_score_worse_are_mentioned() -> None:
    (line,) = tta_remarks(EVIDENCE, "d4")  # element i is off by i grams
    assert line.startswith(
        "test-time augmentation does not help this blend: R2 with 8 elements of D4 minus that with 1 is -"
    )
    assert "(standard error over dates)" in line
    better = dataclasses.replace(EVIDENCE, predictions=EVIDENCE.predictions[:, ::-1])
    assert tta_remarks(better, "d4") == []
    assert tta_remarks(EVIDENCE, "none") == []
