"""A data folder without some photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from pasture.dataset import read_test, read_train
from pasture.errors import InputError
from pasture.exclude import read_ids, write_without
from pasture.verification import verify


def test_the_others_stay_as_they_are(data: Path, tmp_path: Path) -> None:
    ids = tmp_path / "ids.txt"
    ids.write_text("# blurred\nID0002\n\nID0004  # wrong label\n")
    assert write_without(data, read_ids(ids), tmp_path / "fewer") == 2
    before, after = read_train(data), read_train(tmp_path / "fewer")
    assert sorted(after.ids) == ["ID0001", "ID0003"]
    assert after.images.equals(before.images.loc[after.ids])
    assert read_test(tmp_path / "fewer").ids == read_test(data).ids
    assert verify(after).fingerprint != verify(before).fingerprint
    assert not (tmp_path / "fewer/train/ID0002.jpg").exists()
    assert (tmp_path / "fewer/train/ID0001.jpg").samefile(data / "train/ID0001.jpg")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["ID0002", "ID9"], "no image 'ID9' to exclude; expected ids such as ID"),
        (["ID0001", "ID0002", "ID0003", "ID0004"], "excluding 4 photographs leaves no measured one"),
    ],
)
def test_what_cannot_be_excluded_is_named(data: Path, tmp_path: Path, ids: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_without(data, ids, tmp_path / "fewer")
    assert not (tmp_path / "fewer").exists()


@pytest.mark.parametrize(("content", "message"), [(b"# none\n", "no image id"), (b"\xff\xfe\x00", "not text")])
def test_a_file_without_ids(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_ids(tmp_path / "ids.txt")
    with pytest.raises(InputError, match=r"none\.txt: no such file; expected a text file with one image id"):
        read_ids(tmp_path / "none.txt")
