from __future__ import annotations

from pathlib import Path

import pytest

from pasture.dataset import read_train
from tune.depot import Depot, handing_out


def test_only_files_of_the_dataset_are_handed_out(data: Path) -> None:
    depot = Depot(str(data), ["train.csv"])
    assert depot.names() == ["train.csv"]
    assert depot.read("train.csv") == (data / "train.csv").read_bytes()
    for name in ("test.csv", "../secret", "/etc/passwd"):
        with pytest.raises(ValueError, match="no file of the dataset"):
            depot.read(name)


def test_on_one_machine_nothing_is_handed_out(data: Path) -> None:
    with handing_out(read_train(data), "fingerprint", "local") as node:
        assert node is None
