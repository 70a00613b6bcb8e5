"""Which failures to read are bad input, and which are the storage's fault."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pasture.dataset import read_train
from pasture.errors import InputError, StorageError, read_error
from pasture.files import Folder
from pasture.pictures import read_pixels
from pasture.verification import verify

EIO = OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.ELOOP])
def test_a_path_that_will_never_be_readable_is_bad_input(number: int) -> None:
    error = read_error("a.csv", OSError(number, os.strerror(number)))
    assert type(error) is InputError
    assert str(error) == f"cannot read a.csv: {os.strerror(number)}"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, None])
def test_a_read_that_may_work_later_is_a_storage_error(number: int | None) -> None:
    error = read_error("a.csv", OSError("gone") if number is None else OSError(number, os.strerror(number)))
    assert type(error) is StorageError
    assert str(error).endswith("; check the disk or the connection, then resume")


def fail(*_: Any, **__: Any) -> None:
    raise EIO


def test_a_disk_that_fails_under_a_picture_is_a_storage_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = read_train(data)
    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(StorageError, match=r"cannot read .*ID000\d\.jpg: Input/output error"):
        verify(dataset)
    with pytest.raises(StorageError, match=r"cannot read .*ID0001\.jpg: Input/output error"):
        read_pixels(dataset.paths[0])


def test_a_disk_that_fails_under_a_table_is_a_storage_error(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pd, "read_csv", fail)
    with pytest.raises(StorageError, match=r"cannot read .*train\.csv: Input/output error"):
        read_train(data)


def test_a_disk_that_fails_under_a_run_is_a_storage_error(tmp_path: Path) -> None:
    class Failing:
        type_name = "local"
        open_input_stream = fail

    with pytest.raises(StorageError, match=r"cannot read .*sweep\.yaml: Input/output error"):
        Folder(Failing(), str(tmp_path)).read("sweep.yaml")  # type: ignore[arg-type]
