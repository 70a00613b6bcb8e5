"""The OOF table: what goes in comes out, and nothing damaged is believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pasture.errors import InputError
from pasture.files import Folder
from pasture.oof import OofTable
from pasture.targets import TARGETS

METADATA = {"trial": "t1", "recipe": {"seed": 3, "view": {"size": 256}}, "score": 0.7125, "curve": [0.1, 0.7125]}


def table(elements: int = 8, images: int = 4) -> OofTable:
    # Neither ids nor folds are sorted; every number tells where it belongs. Halves are exact in float32.
    ids = [f"ID{images - i}" for i in range(images)]
    folds = np.array([2, 0, 1, 0, 2][:images], dtype=np.int8)
    predictions = np.arange(images * elements * 5).reshape(images, elements, 5) / 2
    return OofTable(ids, folds, predictions, METADATA)


@pytest.mark.parametrize("elements", [1, 8])
def test_round_trip_keeps_order_elements_and_metadata(folder: Folder, elements: int) -> None:
    written = table(elements)
    written.write(folder, "t1.parquet")
    read = OofTable.read(folder, "t1.parquet")
    assert read.image_ids == written.image_ids
    assert read.metadata == METADATA
    np.testing.assert_array_equal(read.folds, written.folds)
    np.testing.assert_array_equal(read.predictions, written.predictions)
    assert (read.folds.dtype, read.predictions.dtype) == (np.int8, np.float64)


def test_a_table_has_one_row_an_image_and_element(tmp_path: Path) -> None:
    table().write(Folder.at(tmp_path), "t1.parquet")
    frame = pq.read_table(tmp_path / "t1.parquet").to_pandas()
    assert list(frame.columns) == ["image_id", "fold", "d4", *TARGETS]
    row = frame[(frame["image_id"] == "ID3") & (frame["d4"] == 6)]
    np.testing.assert_array_equal(row[list(TARGETS)], table().predictions[1, [6]])
    assert row["fold"].tolist() == [0]


def test_writing_twice_gives_the_same_file(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    for name in ("a.parquet", "b.parquet"):
        table().write(folder, name)
    assert folder.read("a.parquet") == folder.read("b.parquet")


@pytest.mark.parametrize("elements", [(0,), (3,), (0, 5), tuple(range(8))])
def test_mean_is_over_the_elements_asked_for(elements: tuple[int, ...]) -> None:
    expected = sum(table().predictions[:, e] for e in elements) / len(elements)
    np.testing.assert_allclose(table().mean(elements), expected)


def test_an_absent_file_is_named(folder: Folder) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none\.parquet"):
        OofTable.read(folder, "none.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"image_id,fold\nID1,0\n", bytes(1000)])
def test_a_file_of_another_kind_is_refused(folder: Folder, content: bytes) -> None:
    folder.write("t1.parquet", content)
    with pytest.raises(InputError, match=r"t1\.parquet: damaged"):
        OofTable.read(folder, "t1.parquet")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = Folder.at(tmp_path_factory.mktemp("oof"))
    table().write(folder, "t1.parquet")
    return folder.read("t1.parquet")


def test_a_truncated_file_is_refused(folder: Folder, sound: bytes) -> None:
    for length in range(0, len(sound), 97):
        folder.write("t1.parquet", sound[:length])
        with pytest.raises(InputError, match=r"t1\.parquet"):
            OofTable.read(folder, "t1.parquet")


def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, sound: bytes) -> None:
    refused = 0
    for position in range(0, len(sound), 13):
        damaged = bytearray(sound)
        damaged[position] ^= 0xFF
        (tmp_path / "t1.parquet").write_bytes(damaged)
        try:
            read = OofTable.read(Folder.at(tmp_path), "t1.parquet")
        except InputError:
            refused += 1
        else:
            assert (read.image_ids, read.metadata) == (table().image_ids, METADATA), f"byte {position}"
            np.testing.assert_array_equal(read.folds, table().folds, f"byte {position}")
            np.testing.assert_array_equal(read.predictions, table().predictions, f"byte {position}")
    assert refused > len(sound) / 13 / 2


def test_column_names_that_are_no_text_are_refused(folder: Folder, sound: bytes) -> None:
    folder.write("t1.parquet", sound.replace(b"Dry_Green_g", b"Dry_Gr\xffen_g"))
    with pytest.raises(InputError, match=r"t1\.parquet: damaged"):
        OofTable.read(folder, "t1.parquet")


def keep(*dropped: int) -> list[int]:
    return [row for row in range(32) if row not in dropped]


ROWS = {
    "an element in the middle is missing": (keep(11), "lack elements"),
    "the last element is missing": (keep(31), "lack elements"),
    "one element of every image is missing": (keep(2, 10, 18, 26), "lack elements"),
    "an element stands twice instead of another": ([*range(5), 4, *range(6, 32)], "lack elements"),
    "no rows": ([], "lack elements"),
    "an image stands twice": ([*range(32), *range(8)], "appears twice"),
    "elements of two images are exchanged": ([0, 9, *range(2, 9), 1, *range(10, 32)], "are not together"),
}


@pytest.mark.parametrize(("rows", "reason"), ROWS.values(), ids=ROWS.keys())
def test_rows_that_do_not_add_up_are_refused(tmp_path: Path, rows: list[int], reason: str) -> None:
    table().write(Folder.at(tmp_path), "t1.parquet")
    whole = pq.read_table(tmp_path / "t1.parquet")
    pq.write_table(whole.take(pa.array(rows, pa.int64())), tmp_path / "t1.parquet")
    with pytest.raises(InputError, match=rf"t1\.parquet: .*{reason}"):
        OofTable.read(Folder.at(tmp_path), "t1.parquet")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_refused(folder: Folder, bad: float) -> None:
    broken = table()
    broken.predictions[2, 3, 4] = bad
    broken.write(folder, "t1.parquet")
    with pytest.raises(InputError, match=r"t1\.parquet: predictions hold NaN or infinity"):
        OofTable.read(folder, "t1.parquet")


SCHEMAS = {
    "a column less": lambda t: t.drop_columns(["d4"]),
    "a column more": lambda t: t.append_column("extra", t["fold"]),
    "columns in another order": lambda t: t.select(["fold", "image_id", *t.schema.names[2:]]),
    "text for a number": lambda t: t.set_column(2, "d4", t["d4"].cast(pa.string())),
    "ids that are numbers": lambda t: t.set_column(0, "image_id", t["fold"]),
    "missing values": lambda t: t.set_column(7, "Dry_Total_g", pa.nulls(len(t), pa.float32())),
}


@pytest.mark.parametrize("change", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_another_schema_is_refused_naming_what_was_expected(tmp_path: Path, change: object) -> None:
    table().write(Folder.at(tmp_path), "t1.parquet")
    whole = pq.read_table(tmp_path / "t1.parquet")
    pq.write_table(change(whole), tmp_path / "t1.parquet")  # type: ignore[operator]
    with pytest.raises(InputError, match=r"t1\.parquet: columns .*, expected image_id string, fold int8, d4 int8"):
        OofTable.read(Folder.at(tmp_path), "t1.parquet")


@pytest.mark.parametrize("metadata", [None, {b"forage": b"{"}, {b"forage": b"\xff"}, {b"other": b"{}"}])
def test_metadata_damaged_or_missing_is_refused(tmp_path: Path, metadata: dict[bytes, bytes] | None) -> None:
    table().write(Folder.at(tmp_path), "t1.parquet")
    whole = pq.read_table(tmp_path / "t1.parquet")
    pq.write_table(whole.replace_schema_metadata(metadata), tmp_path / "t1.parquet")
    with pytest.raises(InputError, match=r"t1\.parquet: metadata damaged or missing"):
        OofTable.read(Folder.at(tmp_path), "t1.parquet")
