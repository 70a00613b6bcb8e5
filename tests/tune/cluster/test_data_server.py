from __future__ import annotations

from pathlib import Path

import pytest

from pasture.dataset import read_train
from pasture.verification import with_fingerprint
from tune.cluster.data_server import DataServer, serve_data


def test_only_files_of_the_dataset_are_served(data: Path) -> None:
    server = DataServer(str(data), ["train.csv"])
    assert server.names() == ["train.csv"]
    assert server.read("train.csv") == (data / "train.csv").read_bytes()
    for name in ("test.csv", "../secret", "/etc/passwd"):
        with pytest.raises(ValueError, match="no file of the dataset"):
            server.read(name)


def test_on_one_machine_nothing_is_served(data: Path) -> None:
    with serve_data(with_fingerprint(read_train(data), "fingerprint"), local=True) as node:
        assert node is None
